// cuda_found: what the CUDA runtime says about a machine, and what to tell a user whose machine cannot run
// the CUDA backend. Without a line of CUDA, so that every message is tested everywhere.
#pragma once

#include <string>

namespace eep {

struct CudaFound {
  int driver = 0;       // CUDA version that the driver serves, 1000 major + 10 minor; 0: there is no driver
  int runtime = 0;      // CUDA version of this build
  std::string problem;  // what counting the devices said; "": nothing
  int devices = 0;
};

// Throws Error(kRuntime), one line, unless there is a device `index`.
void check_cuda_found(const CudaFound& found, int index);
// Throws Error(kRuntime) for a card older than the kernels: compute capability 8.0.
void check_cuda_card(const std::string& name, int major, int minor);

// What a device that has no room says: wanted and free in GiB.
std::string out_of_memory_text(size_t wanted, size_t unused, size_t total);

}  // namespace eep
