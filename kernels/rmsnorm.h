// rmsnorm: out = x / sqrt(mean(x^2) + eps) * weight, over rows of `dim`. Used for hidden rows and, with dim =
// head_dim, for Qwen3's per-head norm of q and k (rows = tokens * heads). The sum of squares uses 16 virtual
// lanes and one fixed tree.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct RmsNormArgs {
  const float* x = nullptr;  // [rows, dim]
  int64_t rows = 0;
  int64_t dim = 0;
  const float* weight = nullptr;  // [dim]
  float eps = 0;
  float* out = nullptr;          // [rows, dim], may be x itself; null where only out16 is wanted
  uint16_t* out16 = nullptr;     // or null: out as round_rows makes it, [rows, row_stride_16bit(dim)]
  DType dtype16 = DType::kBF16;  // on the CPU bf16 alone
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const RmsNormArgs& args) {
  assert(args.rows == 0 ||
         (args.x != nullptr && args.weight != nullptr && (args.out != nullptr || args.out16 != nullptr)));
  assert(args.rows >= 0 && args.dim > 0 && args.eps >= 0);
}

void rmsnorm_cpu(const RmsNormArgs& args, const Device& device);

// On a GPU: all pointers are device memory; the bits are the CPU's.
void rmsnorm_simt(const RmsNormArgs& args, const Device& device);
void rmsnorm_cuda(const RmsNormArgs& args, const Device& device);

}  // namespace eep
