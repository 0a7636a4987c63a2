#include "engine/decode_plan.h"

#include <algorithm>
#include <optional>

namespace eep {
namespace {

// The widest of the stages; of one process all layers.
int64_t layers_of_a_stage(const Weights& weights) {
  if (weights.link() == nullptr) return weights.config().num_layers;
  int64_t most = 0;
  for (const LayerRange& layers : weights.link()->layers()) most = std::max(most, layers.size());
  return most;
}

}  // namespace

DecodePlan plan_decoding(const Weights& weights, size_t budget, const LayerVariants& variants,
                         int32_t candidates, std::span<const LaneSize> lanes) {
  const ModelConfig& config = weights.config();
  const auto row_cache =
      static_cast<size_t>(layers_of_a_stage(weights) * 2 * config.kv_rows()) * sizeof(float);
  size_t longest = 0, caches = 0;
  int64_t prompt_rows = 0;
  for (const LaneSize& lane : lanes) {
    longest = std::max(longest, lane.capacity);
    caches += row_cache * lane.capacity;
    prompt_rows += static_cast<int64_t>(lane.prompt);
  }
  const size_t least_cache = row_cache * longest;
  MemoryRequest request = request_for(weights, budget);
  request.slots = variants.slots();
  request.positions = static_cast<int64_t>(longest);
  budget = request.budget;
  if (budget != 0) request.budget = budget > least_cache ? budget - least_cache : 1;
  const int64_t dense = request.dense_experts = variants.most_merged_rows();
  const auto ask = [&](int64_t rows, int64_t merged) {
    request.rows = request.largest_tree = rows;
    request.merged_slots = merged;
  };
  const auto with = [&](const MemoryPlan& memory) {
    return DecodePlan{memory, row_cache, budget == 0 ? SIZE_MAX : budget - memory.total()};
  };
  const int64_t most_rows = weights.ops().block_rows(config.num_experts, config.top_k);
  int64_t rows = 16;
  while (rows < std::min(most_rows, prompt_rows)) rows *= 2;
  for (; rows >= 16; rows /= 2) {
    for (const int64_t merged : {dense * config.sparse_layers() * candidates, dense * candidates, dense}) {
      ask(rows, merged);
      const std::optional<MemoryPlan> memory = fitting_plan(config, weights.ops(), request);
      if (!memory) continue;
      const DecodePlan decode = with(*memory);
      if (decode.cache_bytes >= std::min(caches, memory->total() - memory->weights)) return decode;
    }
  }
  ask(16, dense);
  return with(plan_memory(weights, request));
}

}  // namespace eep
