// cuBLAS and cuBLASLt, loaded when they are first asked for: programs start, and run, on machines that have
// neither.
#pragma once

#include <string>

namespace eep::bench {

struct CublasLibraries {
  void* cublas = nullptr;  // handles of dlopen; both or none
  void* cublas_lt = nullptr;
  std::string where;  // the folder, "the loader's path", or why there are none

  bool here() const { return cublas != nullptr; }
};

// The libraries of the release whose headers the build saw. Looked for, in this order, in the folder that
// EEP_CUBLAS names (and then nowhere else), on the loader's path, in the toolkit's folder, and in the package
// `nvidia` of each python3 on PATH. Loaded once, never unloaded.
const CublasLibraries& cublas_libraries();

}  // namespace eep::bench
