#include <iostream>

#include "experiments/program.h"

int main(int argc, char** argv) { return eep::run_program(argc, argv, std::cout, std::cerr); }
