// gemm_bf16: the products of precision bf16 on the CPU, out[m, n] = sum_k x[m, k] * w[n, k] with both sides
// bf16 and f32 sums in the order of Intel's AMX. For each 32 columns of k, padded with zeros, one chain over
// the even and one over the odd ones, and their sum:
//   even = fma(x[2 i], w[2 i], even), odd = fma(x[2 i + 1], w[2 i + 1], odd),  i = 0 .. 15, both from 0
//   sum = sum + (even + odd)
// Products are exact; denormal numbers, read or written, are zeros (cpu/denormals.h). So vectors of any width
// and the matrix unit give the same bits, which depend on the row of x and the row of w alone. Every op here
// takes its sibling's arguments and its epilogue: f32, denormal numbers included.
//
// x is rounded to nearest even where it is read (round_rows.h, once for all products of the rows, or by the
// product itself: the bits are the same). Weights of any dtype are rounded to nearest even when they are
// packed, into panels of kPanel outputs in the layout of tiles:
//   [ceil(n / 16)][ceil(k / 32)][16 pairs of k][16 outputs][2], zeros beyond n and k.
// Packing is element-wise once rounded, so merging works on packed data.
#pragma once

#include "kernels/expert_ffn.h"
#include "kernels/gemm.h"
#include "kernels/score.h"

namespace eep {

// dtype is that of the source; what is packed is bf16.
size_t gemm_bf16_packed_bytes(int64_t n, int64_t k, DType dtype);
PackedMatrix gemm_bf16_pack_cpu(const void* source, int64_t n, int64_t k, int64_t row_stride,
                                int64_t column_stride, DType dtype, void* destination);
// The inverse, for tests: destination [n, k] of bf16.
void gemm_bf16_unpack_cpu(const PackedMatrix& matrix, void* destination);

// x16, where it is there, is x as round_rows makes it.
void gemm_bf16_cpu(const GemmArgs& args, const Device& device);
// Rows as above; h is rounded where it is written, activation begins with it in 16 bits.
void expert_ffn_bf16_cpu(const ExpertFfnArgs& args, const Device& device);
void score_bf16_cpu(const ScoreArgs& args, const Device& device);

}  // namespace eep
