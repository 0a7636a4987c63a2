// score: log-probabilities at wanted positions only. For each wanted row, logits = x W_vocab^T, and
//   log_probability = logits[target] - max - log(sum_v exp(logits[v] - max)),   argmax = the lowest index of
//   the largest logit.
// The logits live in a scratch of a few rows; the whole [rows, vocab] matrix never exists. Consecutive wanted
// positions of one row share its logits.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"
#include "kernels/gemm.h"

namespace eep {

struct TokenScore {
  float log_probability = 0;  // of the target; 0 if the target is -1
  int32_t argmax = 0;
};

struct ScoreArgs {
  const float* x = nullptr;          // [x_rows, hidden] after the final norm
  const uint16_t* x16 = nullptr;     // of score_bf16_cpu: x by round_rows in bf16, or null
  const int32_t* x_index = nullptr;  // [count] row of x for each wanted position, or null
  const int32_t* target = nullptr;   // [count] token, or -1: only the arg-max is wanted; null: all -1
  int64_t count = 0;
  PackedMatrix vocabulary;    // [vocab, hidden]
  TokenScore* out = nullptr;  // [count]
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const ScoreArgs& args) {
  assert(args.count == 0 || ((args.x != nullptr || args.x16 != nullptr) && args.out != nullptr));
  assert(args.count >= 0 && args.vocabulary.n > 0 && args.vocabulary.k > 0);
}

void score_cpu(const ScoreArgs& args, const Device& device);

// On a GPU: x_index and target are host memory, all else is device memory. The vocabulary and the rounding of
// x are those of gemm_simt. The sums have a cut of their own: the bits are not the CPU's.
void score_simt(const ScoreArgs& args, const Device& device);
void score_cuda(const ScoreArgs& args, const Device& device);

}  // namespace eep
