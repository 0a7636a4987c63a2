// expert_ffn: out[slot] = down(silu(gate(x)) * up(x)) for the row of each slot, grouped by expert:
//   h = silu(x W_gate^T) * (x W_up^T)   [rows of the group, intermediate]
//   y = h W_down^T                      [rows of the group, hidden]
// With biases they are added to the three products; with a limit (gpt-oss)
//   h = (u + 1) * g * sigmoid(alpha g),  g = min(gate, limit), u = up held within +-limit
// GEMM chains as in gemm.h. A dense FFN or a shared expert is one group with every row.
#pragma once

#include <algorithm>
#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"
#include "kernels/gemm.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep {

struct ExpertMatrices {
  PackedMatrix gate;  // [intermediate, hidden]
  PackedMatrix up;    // [intermediate, hidden]
  PackedMatrix down;  // [hidden, intermediate]
  // All three or none, in all groups, of the same dtype: merged as the matrices are.
  PackedMatrix gate_bias = {}, up_bias = {};  // [intermediate, 1]
  PackedMatrix down_bias = {};                // [hidden, 1]
};

struct ExpertFfnArgs {
  const float* x = nullptr;         // [rows, hidden]
  const uint16_t* x16 = nullptr;    // x by round_rows in the weights' dtype, or null: as in gemm.h
  int32_t slots = 1;                // the row of slot s is s / slots
  const int32_t* order = nullptr;   // [total] slots sorted by group, or null: slot i at position i
  const int32_t* offset = nullptr;  // [groups + 1]
  int32_t groups = 0;
  const ExpertMatrices* experts = nullptr;  // [groups]
  int64_t hidden = 0;
  int64_t intermediate = 0;
  float limit = 0;              // 0: none
  float alpha = 1;              // with a limit
  float* activation = nullptr;  // scratch, expert_ffn_scratch_bytes; begins with h [total, intermediate]
  float* out = nullptr;         // [rows * slots, hidden], row s is the output of slot s
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const ExpertFfnArgs& args) {
  assert(args.groups == 0 || (args.offset != nullptr && args.experts != nullptr));
  assert(args.groups >= 0 && args.slots > 0 && args.hidden > 0 && args.intermediate > 0);
  assert(args.limit >= 0);
  for (int32_t group = 0; group < args.groups; ++group) {  // of all groups or of none
    [[maybe_unused]] const ExpertMatrices& expert = args.experts[group];
    [[maybe_unused]] const bool biased = args.experts[0].gate_bias.data != nullptr;
    assert((expert.gate_bias.data != nullptr) == biased && (expert.up_bias.data != nullptr) == biased);
    assert((expert.down_bias.data != nullptr) == biased);
  }
}

// Of `activation` on every backend, for `total` slots: h in f32, or in 16 bits.
inline size_t expert_ffn_scratch_bytes(int64_t total, int64_t intermediate) {
  return static_cast<size_t>(total * std::max(4 * intermediate, 2 * row_stride_16bit(intermediate)));
}

void expert_ffn_cpu(const ExpertFfnArgs& args, const Device& device);

// On a GPU x, order, offset, activation, out and what the matrices point to are device memory, experts is
// host memory. Weights are bf16 or f16, [n, k] by rows of row_stride_16bit(k) elements, aligned to 16 bytes.
// x and h are rounded to that dtype where a product reads them; activation begins with the rounded h, in f32,
// in sorted order.
void expert_ffn_simt(const ExpertFfnArgs& args, const Device& device);
void expert_ffn_cuda(const ExpertFfnArgs& args, const Device& device);

// The same with wgmma, for compute capability 9.0 alone; reads x16. Its bits are its own, so a run stays with
// one of the two. activation begins with h in 16 bits, rows of row_stride_16bit(intermediate) elements.
void expert_ffn_sm90_simt(const ExpertFfnArgs& args, const Device& device);
void expert_ffn_sm90_cuda(const ExpertFfnArgs& args, const Device& device);

}  // namespace eep
