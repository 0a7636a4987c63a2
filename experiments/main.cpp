#include <iostream>

#include "experiments/mapped_fault.h"
#include "experiments/program.h"

int main(int argc, char** argv) {
  eep::report_mapped_faults();
  return eep::run_program(argc, argv, std::cout, std::cerr);
}
