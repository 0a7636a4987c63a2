#include "bench/openblas.h"

#include <dlfcn.h>

#include <cstdlib>

namespace eep::bench {
namespace {

// cblas_sgemm of the CBLAS interface, whose enums are int.
using Sgemm = void(int order, int transposed_a, int transposed_b, int m, int n, int k, float alpha,
                   const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);
constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;

struct OpenBlas {
  Sgemm* sgemm = nullptr;
  std::string where;
};

OpenBlas find() {
  const char* const named = std::getenv("EEP_OPENBLAS");
  const bool folder = named != nullptr && *named != '\0';
  void* const library =
      dlopen(((folder ? std::string(named) + "/" : "") + "libopenblas.so.0").c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return {nullptr, folder ? std::string("no OpenBLAS in ") + named
                            : std::string("OpenBLAS is not found (EEP_OPENBLAS names its folder)")};
  auto* const set_threads = reinterpret_cast<void (*)(int)>(dlsym(library, "openblas_set_num_threads"));
  auto* const sgemm = reinterpret_cast<Sgemm*>(dlsym(library, "cblas_sgemm"));
  if (set_threads == nullptr || sgemm == nullptr)
    return {nullptr, "libopenblas.so.0 lacks openblas_set_num_threads or cblas_sgemm"};
  set_threads(1);
  return {sgemm, folder ? named : "the loader's path"};
}

const OpenBlas& openblas() {
  static const OpenBlas library = find();
  return library;
}

}  // namespace

bool openblas_here() { return openblas().sgemm != nullptr; }
const std::string& openblas_where() { return openblas().where; }

void openblas_product(const float* x, const float* w, float* out, int64_t rows, int64_t n, int64_t k) {
  const int m = static_cast<int>(rows), columns = static_cast<int>(n), depth = static_cast<int>(k);
  openblas().sgemm(kRowMajor, kNoTranspose, kTranspose, m, columns, depth, 1.0f, x, depth, w, depth, 0.0f,
                   out, columns);
}

}  // namespace eep::bench
