// combine: residual[row] += sum_j weight[row, j] * slot_out[row * slots + j] (+ sigmoid(shared_gate[row]) *
// shared_out[row]), j ascending, one chain of fused multiply-adds from 0, the shared term last, then the
// residual.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct CombineArgs {
  const float* slot_out = nullptr;    // [rows * slots, hidden]
  const float* weight = nullptr;      // [rows, slots]
  const int32_t* expert = nullptr;    // [rows, slots], -1: the slot is skipped
  const int32_t* slot_row = nullptr;  // [rows * slots] row of slot_out (dispatch.h), or null: the slot's own
  int64_t rows = 0;
  int32_t slots = 0;  // 0: the shared term alone
  int64_t hidden = 0;
  const float* shared_out = nullptr;   // [rows, hidden] or null
  const float* shared_gate = nullptr;  // [rows] logits of the gate, or null: the shared term counts whole
  float* residual = nullptr;           // [rows, hidden], added to
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const CombineArgs& args) {
  assert(args.rows >= 0 && args.slots >= 0 && args.hidden > 0);
  assert(args.rows == 0 || args.residual != nullptr);
  assert(args.rows == 0 || args.slots == 0 ||
         (args.slot_out != nullptr && args.weight != nullptr && args.expert != nullptr));
  assert(args.shared_gate == nullptr || args.shared_out != nullptr);
}

void combine_cpu(const CombineArgs& args, const Device& device);

// On a GPU: all pointers are device memory; the bits are the CPU's.
void combine_simt(const CombineArgs& args, const Device& device);
void combine_cuda(const CombineArgs& args, const Device& device);

}  // namespace eep
