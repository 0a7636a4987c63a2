// router: gate logits, softmax, per-candidate mapping W_RM, top-k, renormalisation, fused (EEP, sections 3.1
// and 3.2).
//
//   z = W_gate x (+ bias)                 logits, kept in f32
//   kLogits:         g = softmax(W_RM z)  what an exported checkpoint computes: the map folds into the gate
//   kProbabilities:  g = W_RM softmax(z)  the paper's map
//   (weight, expert) = top-k of g         ties to the lower index (compared on W_RM z in kLogits)
//   skip_below:                           of these, experts behind the last one whose g is not below skip_below
//                                         times the first's are left out (NAEE's dynamic skipping)
//   weight /= sum(weight)                 if renormalise
//   hf_rounding:                          z and the weights are rounded to the gate's dtype, as transformers
//                                         does for a 16-bit checkpoint (Mixtral: up to version 4, later ones
//                                         keep the weights in f32); then exact ties are common
//
// With sigmoid scores (GLM-4.5) an expert's score does not depend on the others':
//
//   s = sigmoid(W_RM z)  or  W_RM sigmoid(z)
//   expert = top-k of s + W_RM b          b: the selection bias, which is in no weight
//   weight = scale * s / sum(s)           divided if renormalise; skip_below compares s
//
// With groups the kept rows are so many runs of one length; experts are taken from the top_groups of them
// whose two largest s + b have the largest sums.
//
// A plan's row order carries no meaning, so slots are ordered by rank (largest weight first) and the combine
// sums in that order. Sums that cannot be divided by: with renormalise and |sum| < kRouterTinySum the weights
// become 1/k each, k without what is skipped; a negative sum is divided by as it is (the paper has no guard).
// Both are counted.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"
#include "kernels/gemm.h"

namespace eep {

enum class RouterSpace : uint8_t { kProbabilities, kLogits };

inline constexpr float kRouterTinySum = 1e-6f;
inline constexpr int kMaxTopK = 32;
inline constexpr int kMaxExperts = 1024;

// One candidate's routing in one layer.
struct RouterMap {
  const int32_t* kept_experts = nullptr;  // [kept] base expert of each row when rows are one-hot, else null
  const float* matrix = nullptr;          // [kept, experts] W_RM when it is dense, else null
  int32_t kept = 0;                       // <= kMaxExperts
  int32_t top_k = 0;                      // <= min(kept, kMaxTopK)
  RouterSpace space = RouterSpace::kLogits;
  float skip_below = 0;  // in [0, 1]; 0: nothing is skipped
};

struct RouterCounts {
  int64_t tiny_sums = 0;
  int64_t negative_sums = 0;
};

enum class RouterScore : uint8_t { kSoftmax, kSigmoid };

struct RouterArgs {
  const float* x = nullptr;  // [rows, hidden]
  int64_t rows = 0;
  PackedMatrix gate;                    // [experts, hidden]
  const float* bias = nullptr;          // [experts] of the logits, or null
  const RouterMap* maps = nullptr;      // [map_count]
  const int32_t* map_of_row = nullptr;  // [rows] index into maps, or null: all rows use maps[0]
  int32_t slots = 0;                    // largest top_k of the maps
  bool renormalise = true;
  bool hf_rounding = false;  // of softmax alone
  RouterScore score = RouterScore::kSoftmax;
  const float* selection_bias = nullptr;  // [experts] or null; this and what follows for sigmoid scores
  float scale = 1;
  int32_t groups = 1, top_groups = 1;  // the first divides the kept of every map
  int32_t* expert = nullptr;       // [rows, slots] row of the plan (0..kept-1), -1 beyond top_k or skipped
  float* weight = nullptr;         // [rows, slots] 0 there
  float* logits = nullptr;         // [rows, experts] scratch of the caller, holds z afterwards
  RouterCounts* counts = nullptr;  // added to, or null
};

// Where asserts are on: what no caller of ours passes. Too many experts or slots are an error, not a mistake.
inline void check([[maybe_unused]] const RouterArgs& args) {
  assert(args.rows >= 0 && args.slots > 0 && args.gate.n > 0 && args.gate.k > 0 && args.maps != nullptr);
  assert(args.rows == 0 || (args.x != nullptr && args.gate.data != nullptr && args.expert != nullptr &&
                            args.weight != nullptr && args.logits != nullptr));
  assert((args.score == RouterScore::kSigmoid ? args.bias : args.selection_bias) == nullptr);
  assert(args.groups >= 1 && args.top_groups >= 1 && args.top_groups <= args.groups);
}

void router_cpu(const RouterArgs& args, const Device& device);

// On a GPU: maps with what they point to, and map_of_row, are host memory, all else is device memory, counts
// too. The gate is bf16 or f16, [experts, hidden] by rows of row_stride_16bit(hidden) (tile_schedule.h). x is
// not rounded: logits are the CPU's chains over f32, all that follows too, so the bits are the CPU's.
void router_simt(const RouterArgs& args, const Device& device);
void router_cuda(const RouterArgs& args, const Device& device);

}  // namespace eep
