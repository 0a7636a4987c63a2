// What a user is told whose machine cannot run the CUDA backend: one line each, before anything is loaded.
#include <doctest/doctest.h>

#include <string>

#include "kernels/common/error.h"
#include "kernels/gpu/cuda_found.h"

using namespace eep;

namespace {

// The message, or "" where nothing is thrown.
template <typename Check>
std::string refusal(const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kRuntime);
    CHECK(!error.hint().empty());
    const std::string text = error.what();
    CHECK(text.find('\n') == std::string::npos);
    return text;
  }
  return "";
}

}  // namespace

TEST_CASE("cuda: no driver, an old driver, no device, a device that is not there") {
  const auto found = [](const CudaFound& what, int index) {
    return refusal([&] { check_cuda_found(what, index); });
  };
  CHECK(found({0, 13000, "CUDA driver version is insufficient", 0}, 0) ==
        "--device cuda: there is no NVIDIA driver on this machine");
  CHECK(found({12020, 13010, "CUDA driver version is insufficient", 0}, 0) ==
        "--device cuda: the NVIDIA driver is too old (expected one for CUDA 13.0 or later, got CUDA 12.2)");
  CHECK(found({13000, 13010, "no CUDA-capable device is detected", 0}, 0) ==
        "--device cuda: no usable CUDA device: no CUDA-capable device is detected");
  CHECK(found({13000, 13000, "", 0}, 0) == "--device cuda: there is no CUDA device");
  CHECK(found({13000, 13000, "", 2}, 2) == "--device cuda: there is no such device (expected 0 to 1, got 2)");
  CHECK(found({13000, 13010, "", 2}, 1) == "");  // a minor version apart
  CHECK(found({14000, 13010, "", 1}, 0) == "");
}

TEST_CASE("cuda: a card below compute capability 8.0") {
  CHECK(
      refusal([] { check_cuda_card("Tesla V100", 7, 0); }) ==
      "--device cuda: the card is not supported (expected compute capability 8.0 or later, got 7.0 of Tesla "
      "V100)");
  CHECK(refusal([] { check_cuda_card("NVIDIA H100 80GB HBM3", 9, 0); }) == "");
  CHECK(out_of_memory_text(size_t{3} << 30, size_t{1} << 30, size_t{80} << 30) ==
        "out of memory (expected 3.00 GiB more, free are 1.00 GiB of 80.00 GiB)");
}
