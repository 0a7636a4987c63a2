// MemoryPlan: what stays resident and how many candidates and rows go through the layers at once. Computed
// before a run from sizes alone, printed, and obeyed: the forward pass allocates what the plan says and cuts
// its work to fit. Results do not depend on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/config.h"
#include "engine/ops.h"

namespace eep {

struct MemoryRequest {
  size_t budget = 0;         // bytes for everything below; 0: unlimited
  int64_t rows = 0;          // rows of all prompts of one candidate
  int64_t largest_tree = 0;  // rows of the largest prompt tree, which is not cut
  int64_t wanted = 0;        // scored positions
  int32_t candidates = 1;
  int32_t dense_experts = 0;  // merged experts of one layer of one candidate, at most
  int32_t slots = 0;          // largest top_k
};

struct MemoryPlan {
  size_t weights = 0;          // packed base weights
  int64_t chunk_rows = 0;      // rows of one candidate that pass through the layers together
  int32_t candidates = 0;      // candidates that pass through the layers together
  int64_t block_rows = 0;      // rows of all candidates that one op sees at once
  int64_t merged_experts = 0;  // slots of the merge buffer
  size_t activations = 0;      // bytes of residual streams, keys and values
  size_t scratch = 0;          // bytes of one block's intermediates
  size_t merge_buffer = 0;     // bytes

  size_t total() const { return weights + activations + scratch + merge_buffer; }
};

// Throws Error(kRuntime) with the least that would do if the budget does not suffice.
MemoryPlan plan_memory(const ModelConfig& config, const Ops& ops, const MemoryRequest& request);

// One line for people: "memory: 7.1 MB weights + ...".
std::string describe(const MemoryPlan& plan);

}  // namespace eep
