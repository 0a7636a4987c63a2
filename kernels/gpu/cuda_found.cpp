#include "kernels/gpu/cuda_found.h"

#include <cstdio>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

constexpr const char* kWhere = "--device cuda";
constexpr const char* kHint = "eep doctor shows the driver and the devices; --device cpu needs neither";

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string gibibytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

}  // namespace

void check_cuda_found(const CudaFound& found, int index) {
  if (found.driver == 0)
    throw Error(ExitCode::kRuntime, kWhere, "there is no NVIDIA driver on this machine", kHint);
  // Within a major version any driver serves any runtime.
  if (found.driver / 1000 < found.runtime / 1000)
    throw Error(ExitCode::kRuntime, kWhere,
                "the NVIDIA driver is too old" +
                    expected_got("one for CUDA " + version_text(found.runtime / 1000 * 1000) + " or later",
                                 "CUDA " + version_text(found.driver)),
                kHint);
  if (!found.problem.empty())
    throw Error(ExitCode::kRuntime, kWhere, "no usable CUDA device: " + found.problem, kHint);
  if (found.devices == 0) throw Error(ExitCode::kRuntime, kWhere, "there is no CUDA device", kHint);
  if (index < 0 || index >= found.devices)
    throw Error(ExitCode::kRuntime, kWhere,
                "there is no such device" + expected_got("0 to " + std::to_string(found.devices - 1), index),
                kHint);
}

void check_cuda_card(const std::string& name, int major, int minor) {
  if (major >= 8) return;
  throw Error(ExitCode::kRuntime, kWhere,
              "the card is not supported" +
                  expected_got("compute capability 8.0 or later",
                               std::to_string(major) + "." + std::to_string(minor) + " of " + name),
              "use --device cpu");
}

std::string out_of_memory_text(size_t wanted, size_t unused, size_t total) {
  return "out of memory (expected " + gibibytes(wanted) + " more, free are " + gibibytes(unused) + " of " +
         gibibytes(total) + ")";
}

}  // namespace eep
