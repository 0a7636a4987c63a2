// MemoryPlan: what stays resident and how many candidates and rows go through the layers at once. Computed
// before a run from sizes alone, printed, and obeyed: the forward pass allocates what the plan says and cuts
// its work to fit. Results do not depend on it.
//
// Where the device's memory is the host's, blocks are as large as its caches suggest, and what memory is left
// keeps merged experts for the next chunk. A device with memory of its own waits for weights: of all plans
// that fit it takes the one that moves the fewest bytes of them (weight_traffic).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/config.h"
#include "engine/layer_limits.h"
#include "engine/ops.h"
#include "engine/weight_plan.h"

namespace eep {

struct MemoryRequest {
  size_t budget = 0;         // bytes for weights and everything below; 0: unlimited
  WeightPlan weights;        // of the weights that are there
  int64_t rows = 0;          // rows of all prompts of one candidate
  int64_t largest_tree = 0;  // rows of the largest prompt tree, which is not cut
  int64_t positions = 0;     // of the longest sequence
  int32_t candidates = 1;
  int32_t dense_experts = 0;    // merged experts of one layer of one candidate, at most
  int32_t slots = 0;            // largest top_k
  size_t beside = 0;            // bytes that the caller takes itself
  int64_t most_block_rows = 0;  // 0: as many as the backend likes
  int64_t sparse_layers = 0;    // that the process has, or more; 0: all of the model
  int64_t merged_slots = 0;     // so many slots of merged experts; 0: as many as save work
};

class Weights;
// Of the weights that are there, and of what they leave of a budget. Equal at all stages, which share what is
// planned.
MemoryRequest request_for(const Weights& weights, size_t budget);

struct MemoryPlan {
  const char* device = "";     // name of the backend
  size_t budget = 0;           // bytes, 0: unlimited
  WeightPlan layers;           // which layers are resident
  size_t weights = 0;          // bytes of base weights on the device, streaming buffers included
  int64_t chunk_rows = 0;      // rows of one candidate that pass through the layers together
  int32_t candidates = 0;      // candidates that pass through the layers together
  int64_t block_rows = 0;      // rows of all candidates that one op sees at once
  int64_t merged_experts = 0;  // slots of the merge buffer
  int32_t merged_at_once =
      0;                    // candidates whose experts of a layer are merged in one read of the base experts
  LayerLimits limits;       // of the layers' intermediates
  size_t activations = 0;   // bytes of residual streams, keys and values
  size_t scratch = 0;       // bytes of one block's intermediates
  size_t merge_buffer = 0;  // bytes
  size_t beside = 0;        // bytes

  size_t total() const { return weights + activations + scratch + merge_buffer + beside; }
};

// Bytes of weights that all candidates of a request move under a plan, at most: every layer of each has
// dense_experts merged rows that no other shares.
struct WeightTraffic {
  int64_t merging = 0;  // base experts read for merging, merged experts written
  int64_t experts = 0;  // experts read by blocks
  int64_t copied = 0;   // streamed layers, over the link
};
WeightTraffic weight_traffic(const ModelConfig& config, const Ops& ops, const MemoryRequest& request,
                             const MemoryPlan& plan);

// None where the budget does not suffice.
std::optional<MemoryPlan> fitting_plan(const ModelConfig& config, const Ops& ops,
                                       const MemoryRequest& request);
// Throws Error(kRuntime) with the least that would do if the budget does not suffice.
MemoryPlan plan_memory(const ModelConfig& config, const Ops& ops, const MemoryRequest& request);
// Of a pass with these weights, whose request it is. What would be refused is tried with more layers streamed
// (Weights::make_room), but not over several stages, each of which would have to do the same.
MemoryPlan plan_memory(const Weights& weights, MemoryRequest request);

// One line for people: "memory: 7.1 MB weights + ...".
std::string describe(const MemoryPlan& plan);

}  // namespace eep
