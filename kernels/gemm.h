// gemm: out[m, n] = sum_k x[m, k] * w[n, k] (+ bias[n]) (+ out[m, n]), f32 accumulation.
//
// Each output is one chain of fused multiply-adds in ascending k, starting from 0; bias, then the old output,
// are added at the end. So its bits depend on its row of x and its row of w alone: not on other rows, chunk,
// threads or instruction set.
//
// Weights are packed once (common/packed_matrix.h). Packing is a permutation, so element-wise work (merging)
// may be done on packed data.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "kernels/common/device.h"
#include "kernels/common/packed_matrix.h"
#include "kernels/common/tensor.h"

namespace eep {

size_t gemm_packed_bytes(int64_t n, int64_t k, DType dtype);

// Packs source [n, k] (any alignment; element (i, j) at i * row_stride + j * column_stride) into destination,
// which holds gemm_packed_bytes(n, k, dtype), aligned to 64.
PackedMatrix gemm_pack_cpu(const void* source, int64_t n, int64_t k, int64_t row_stride,
                           int64_t column_stride, DType dtype, void* destination);

// The inverse, for tests and export: destination [n, k] row-major in the matrix's dtype.
void gemm_unpack_cpu(const PackedMatrix& matrix, void* destination);

struct GemmArgs {
  const float* x = nullptr;          // [x_rows, k]
  const uint16_t* x16 = nullptr;     // x by round_rows in w's dtype, or null: of a GPU, and of gemm_bf16_cpu
  const int32_t* x_index = nullptr;  // [rows] row of x for each output row, or null: row i of x
  int64_t rows = 0;
  PackedMatrix w;               // [n, k]
  const float* bias = nullptr;  // [n] or null
  float* out = nullptr;         // [rows, out_stride], the first n columns are written
  int64_t out_stride = 0;       // >= n
  bool accumulate = false;      // add the old output
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const GemmArgs& args) {
  assert(args.rows == 0 ||
         ((args.x != nullptr || args.x16 != nullptr) && args.w.data != nullptr && args.out != nullptr));
  assert(args.rows >= 0 && args.w.n > 0 && args.w.k > 0 && args.out_stride >= args.w.n);
}

void gemm_cpu(const GemmArgs& args, const Device& device);

// On a GPU x, bias, out and the matrix are device memory, x_index is host memory. The matrix is bf16 or f16,
// [n, k] by rows of row_stride_16bit(k) elements (tile_schedule.h), aligned to 16 bytes; x is rounded to that
// dtype where it is read, products are exact, and the chain over k is one of tensor-core steps of 16.
void gemm_simt(const GemmArgs& args, const Device& device);
void gemm_cuda(const GemmArgs& args, const Device& device);

// The same with wgmma, for compute capability 9.0 alone; reads x16. Its bits are its own, so a matrix stays
// with one of the two.
void gemm_sm90_simt(const GemmArgs& args, const Device& device);
void gemm_sm90_cuda(const GemmArgs& args, const Device& device);

}  // namespace eep
