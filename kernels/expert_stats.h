// expert_stats: per-expert sums over one routed pass for the one-shot criteria (Frequency, Soft Activation,
// EAN, REAP, ...). Sums are f64, added in ascending row order by one owner per expert, so they do not depend
// on threads.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

// One layer's sums; X_j are the tokens routed to expert j, g the selected weight, p the softmax over all
// experts (or the sigmoid of j's own logit), f_j the expert's output.
struct ExpertSums {
  double* count = nullptr;                 // [experts] |X_j|
  double* gate = nullptr;                  // [experts] sum over X_j of g_j
  double* selected_probability = nullptr;  // [experts] sum over X_j of p_j
  double* probability = nullptr;           // [experts] sum over all tokens of p_j
  double* norm = nullptr;                  // [experts] sum over X_j of |f_j|
  double* squared_norm = nullptr;          // [experts] sum over X_j of |f_j|^2
  double* gate_norm = nullptr;             // [experts] sum over X_j of g_j |f_j|
  double* probability_norm = nullptr;      // [experts] sum over X_j of p_j |f_j|
  double* gate_squared_norm = nullptr;     // [experts] sum over X_j of g_j |f_j|^2
  double* max_activation = nullptr;        // [experts] max over X_j and components of |f_j|
};

struct ExpertStatsArgs {
  const float* logits = nullptr;    // [rows, experts] gate logits
  const int32_t* expert = nullptr;  // [rows, slots] base expert of each slot
  const float* weight = nullptr;    // [rows, slots]
  const float* slot_out = nullptr;  // [rows * slots, hidden]
  int64_t rows = 0;
  int32_t slots = 0;
  int32_t experts = 0;
  int64_t hidden = 0;
  bool sigmoids = false;  // what p is
  ExpertSums sums;        // added to
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const ExpertStatsArgs& args) {
  assert(args.rows >= 0 && args.slots > 0 && args.experts > 0 && args.hidden > 0);
  assert(args.rows == 0 || (args.logits != nullptr && args.expert != nullptr && args.weight != nullptr &&
                            args.slot_out != nullptr));
  assert(args.sums.count != nullptr && args.sums.gate != nullptr && args.sums.max_activation != nullptr);
}

void expert_stats_cpu(const ExpertStatsArgs& args, const Device& device);

// On a GPU: all pointers are device memory; the bits are the CPU's.
void expert_stats_simt(const ExpertStatsArgs& args, const Device& device);
void expert_stats_cuda(const ExpertStatsArgs& args, const Device& device);

}  // namespace eep
