#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "experiments/program/mapped_fault.h"
#include "experiments/program/program.h"
#include "experiments/program/signals.h"

namespace {

// GCC's OpenMP threads spin for milliseconds while they wait, and on a busy machine hold back the thread that
// they wait for (docs/architecture.md has figures). A short spin costs nothing alone. The runtime reads the
// setting before main(), hence the program starts itself again. Who has set something gets what was set.
void spin_briefly(char** argv) {
#ifdef _OPENMP
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  ::setenv("GOMP_SPINCOUNT", "1000", 1);  // what the runtime takes where it knows of too many threads
  ::execv(program.c_str(), argv);         // returns where it cannot: then as it is
#else
  (void)argv;
#endif
}

}  // namespace

int main(int argc, char** argv) {
  eep::hold_signals();
  spin_briefly(argv);
  eep::catch_signals();
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files is a failed write, not the end
  eep::report_mapped_faults();
  return eep::run_program(argc, argv, std::cout, std::cerr);
}
