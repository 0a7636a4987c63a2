// main of tests_cuda: one line and 77 where no GPU can run the cases, the GPU's name above them where one
// can.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "kernels/error.h"
#include "kernels/gpu_memory.h"

int main(int argc, char** argv) {
  try {
    eep::close_cuda(eep::open_cuda(0));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tests_cuda: %s\n", error.what());
    return 77;
  }
  std::printf("%s\n", eep::device_text_cuda(0).c_str());
  return doctest::Context(argc, argv).run();
}
