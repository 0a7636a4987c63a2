#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "experiments/mapped_fault.h"
#include "experiments/program.h"

namespace {

// OpenMP's threads spin while they wait, so that on a busy machine each parallel region may take a time slice
// of the scheduler: a search became ten times slower beside two other programs, and no faster alone. The
// runtime reads the setting before main(), hence the program starts itself again. Who has set it gets what
// was set.
void let_threads_sleep(char** argv) {
#ifdef _OPENMP
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  ::execv(program.c_str(), argv);  // returns where it cannot: then as it is
#else
  (void)argv;
#endif
}

}  // namespace

int main(int argc, char** argv) {
  let_threads_sleep(argv);
  eep::report_mapped_faults();
  return eep::run_program(argc, argv, std::cout, std::cerr);
}
