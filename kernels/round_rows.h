// round_rows: rows of f32 as matrix products of a GPU, and of the CPU in precision bf16, read them, rounded
// to nearest even to the weights' 16-bit dtype. One pass for all products of the rows: the rounding is the
// one that each of them would make.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct RoundRowsArgs {
  const float* x = nullptr;  // [rows, width]
  int64_t rows = 0;
  int64_t width = 0;
  DType dtype = DType::kBF16;  // or kF16
  uint16_t* out = nullptr;     // [rows, row_stride_16bit(width)], zeros beyond width
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const RoundRowsArgs& args) {
  assert(args.rows == 0 || (args.x != nullptr && args.out != nullptr));
  assert(args.rows >= 0 && args.width > 0 && args.dtype != DType::kF32);
}

// For the CPU's products of precision bf16 (gemm_bf16.h); those of f32 need none of this.
void round_rows_cpu(const RoundRowsArgs& args, const Device& device);

// All pointers are device memory.
void round_rows_simt(const RoundRowsArgs& args, const Device& device);
void round_rows_cuda(const RoundRowsArgs& args, const Device& device);

}  // namespace eep
