#include "engine/weight_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/memory_plan.h"
#include "engine/merge_buffer.h"
#include "engine/weights.h"
#include "kernels/common/error.h"

namespace eep {
namespace {

// What a pass over a small population works with, merged experts of one layer of one candidate included.
size_t usual_work(const ModelConfig& config, const Ops& ops) {
  MemoryRequest request;
  request.rows = request.most_block_rows = 2048;
  request.largest_tree = 512;
  request.positions = std::min<int64_t>(config.max_positions, 4096);
  request.candidates = 8;
  request.slots = static_cast<int32_t>(config.top_k);
  const size_t merged =
      MergeBuffer::slot_bytes(config, ops) * static_cast<size_t>(std::max<int64_t>(config.num_experts, 1));
  return plan_memory(config, ops, request).total() + merged;
}

// The least with which one short prompt of one candidate passes.
size_t least_work(const ModelConfig& config, const Ops& ops) {
  MemoryRequest request;
  request.rows = request.largest_tree = request.positions = 16;
  request.slots = static_cast<int32_t>(config.top_k);
  return plan_memory(config, ops, request).total();
}

size_t layer_bytes(const ModelConfig& config, const Ops& ops, int64_t layer) {
  return Weights::layer_bytes(config, ops, config.sparse[static_cast<size_t>(layer)] != 0);
}

// Of a plan that streams every layer: the fewest streamed ones, at even distances, whose others fit the room.
WeightPlan leave_room(const ModelConfig& config, const Ops& ops, const WeightPlan& every, size_t room) {
  WeightPlan plan = every;
  const LayerRange range = every.layers;
  const int64_t layers = range.size();
  for (int64_t streamed = 1; streamed <= layers; ++streamed) {
    size_t resident = 0;
    plan.host = 0;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const bool away = (layer + 1) * streamed / layers > layer * streamed / layers;
      plan.streamed[static_cast<size_t>(range.begin + layer)] = away;
      (away ? plan.host : resident) += layer_bytes(config, ops, range.begin + layer);
    }
    plan.resident = every.resident + resident;
    if (resident <= room) break;
  }
  return plan;
}

}  // namespace

WeightPlan plan_weights(const ModelConfig& config, const Ops& ops, size_t budget) {
  return plan_weights(config, ops, budget, all_layers(config));
}

WeightPlan plan_weights(const ModelConfig& config, const Ops& ops, size_t budget, LayerRange range) {
  WeightPlan plan;
  plan.layers = range;
  const size_t all = Weights::packed_bytes(config, ops, range);
  plan.resident = all;
  if (budget == 0 || all + usual_work(config, ops) <= budget) return plan;

  const WeightPlan streamed = stream_every_layer(config, ops, range);
  const size_t least = least_work(config, ops), floor = streamed.device_bytes();
  if (floor + least > budget) {
    throw Error(
        ExitCode::kRuntime, "memory",
        fmt::format("the budget is too small for this model, even with its layers streamed (expected at "
                    "least {} bytes: {} embedding and vocabulary, {} two layers, {} one chunk; got {})",
                    floor + least, streamed.resident, kStreamBuffers * streamed.buffer, least, budget),
        ops.host_memory ? "raise --memory" : "raise --memory, or use --device cpu");
  }
  const size_t work = std::max(least, budget / 4);
  return leave_room(config, ops, streamed, budget > floor + work ? budget - floor - work : 0);
}

std::optional<WeightPlan> plan_weights_beside(const ModelConfig& config, const Ops& ops, size_t budget,
                                              LayerRange range, size_t work) {
  const WeightPlan streamed = stream_every_layer(config, ops, range);
  const size_t floor = streamed.device_bytes();
  if (work > budget || floor > budget - work) return std::nullopt;
  return leave_room(config, ops, streamed, budget - work - floor);
}

WeightPlan stream_every_layer(const ModelConfig& config, const Ops& ops, LayerRange range) {
  WeightPlan plan;
  plan.layers = range;
  plan.streamed.assign(static_cast<size_t>(config.num_layers), 0);
  plan.resident = Weights::packed_bytes(config, ops, range);
  for (int64_t layer = range.begin; layer < range.end; ++layer) {
    const size_t bytes = layer_bytes(config, ops, layer);
    plan.streamed[static_cast<size_t>(layer)] = 1;
    plan.resident -= bytes;
    plan.host += bytes;
    plan.buffer = std::max(plan.buffer, bytes);
  }
  return plan;
}

}  // namespace eep
