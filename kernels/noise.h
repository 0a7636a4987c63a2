// noise: synthetic weights from addressed random numbers (common/philox.h).
#pragma once

#include <cassert>
#include <cstdint>

#include "kernels/common/device.h"
#include "kernels/common/philox.h"
#include "kernels/common/tensor.h"

namespace eep {

// Synthetic weights: element i of an endless array is (2 u - 1) * scale rounded to the dtype, u the uniform
// number of word i % 4 of philox({low and high word of i / 4, stream, 0}, seed). Same bits on every backend.
struct NoiseArgs {
  void* out = nullptr;  // [count], device memory on a GPU
  DType dtype = DType::kBF16;
  int64_t count = 0;
  uint64_t seed = 0;
  uint32_t stream = 0;  // a number for each array
  float scale = 1;
  int64_t first = 0;  // out holds elements first .. first + count - 1; a multiple of 4
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const NoiseArgs& args) {
  assert(args.count == 0 || args.out != nullptr);
  assert(args.count >= 0 && args.first >= 0 && args.first % 4 == 0);
}

void noise_cpu(const NoiseArgs& args, const Device& device);
void noise_simt(const NoiseArgs& args, const Device& device);
void noise_cuda(const NoiseArgs& args, const Device& device);

}  // namespace eep
