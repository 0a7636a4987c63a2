// Sizes from the config and the request; the chunk, the block and the merge buffer shrink until they fit.
#include "engine/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/merge_buffer.h"
#include "kernels/error.h"

namespace eep {
namespace {

// Rows that fill the expert GEMMs (about 64 a base expert) without pushing the block's intermediates out of
// the caches.
int64_t preferred_block_rows(const ModelConfig& config) {
  const int64_t experts = std::max<int64_t>(config.num_experts, 1),
                top_k = std::max<int64_t>(config.top_k, 1);
  return std::clamp<int64_t>(64 * experts / top_k, 2048, 4096);
}

// Merged experts that a block typically holds: the width of the table in which equal slots are found.
constexpr int64_t kMergedPerBlock = 64;

// Rows of one candidate that share a copy of a streamed layer: enough that products take longer than copying.
constexpr int64_t kStreamedRows = 16384;

}  // namespace

MemoryPlan plan_memory(const ModelConfig& config, const Ops& ops, const MemoryRequest& request) {
  MemoryPlan plan;
  plan.device = ops.name;
  plan.budget = request.budget;
  plan.layers = request.weights;
  plan.weights = request.weights.device_bytes();
  plan.beside = request.beside;
  // The residual stream before and after a split; keys and values of a block's rows.
  const size_t row_residual = 2 * static_cast<size_t>(config.hidden_size) * sizeof(float);
  const size_t row_keys = 2 * static_cast<size_t>(config.num_kv_heads * config.head_dim) * sizeof(float);
  const size_t merged_expert = MergeBuffer::slot_bytes(config, ops);

  // A block holds several streams of a population, so that streams that part in a layer still share its
  // experts' work.
  const int64_t block = preferred_block_rows(config);
  const int64_t smallest_chunk = std::max<int64_t>(request.largest_tree, 1);
  const int64_t streams_per_block = std::clamp<int64_t>(request.candidates, 1, 8);
  const int64_t wanted_chunk = std::max(smallest_chunk, std::min(request.rows, block / streams_per_block));
  const int64_t every_merged =
      static_cast<int64_t>(request.dense_experts) * config.sparse_layers() * request.candidates;

  const auto fill = [&](int64_t chunk, int64_t candidates, int64_t merged) {
    plan.chunk_rows = chunk;
    plan.candidates = static_cast<int32_t>(candidates);
    plan.block_rows = std::max(chunk, std::min(block, chunk * candidates));
    plan.merged_experts = merged;
    plan.limits = {plan.block_rows, request.slots, request.positions, config.num_experts + merged,
                   request.candidates > 1 ? plan.block_rows * (config.num_experts + kMergedPerBlock) : 0};
    plan.limits.rows_16bit = ops.round_rows != nullptr;
    plan.activations = row_residual * static_cast<size_t>(chunk) * static_cast<size_t>(candidates);
    plan.scratch = row_keys * static_cast<size_t>(plan.block_rows) + logits_bytes(config) +
                   layer_scratch_bytes(config, plan.limits);
    plan.merge_buffer = merged_expert * static_cast<size_t>(merged);
    return request.budget == 0 || plan.total() <= request.budget;
  };

  // What is left keeps merged experts for the next chunk.
  const auto keep_merged = [&](int64_t chunk, int64_t candidates) {
    if (request.dense_experts == 0) return;
    if (request.budget == 0) {
      fill(chunk, candidates, every_merged);
      return;
    }
    const size_t left = request.budget - plan.total();
    const size_t group = sizeof(int32_t);  // of the table that grows by one for each, in whole lines
    const size_t usable = left > Buffer::kAlignment ? left - Buffer::kAlignment : 0;
    const int64_t more = static_cast<int64_t>(usable / (merged_expert + group));
    fill(chunk, candidates, std::min(every_merged, request.dense_experts + more));
  };

  // A larger chunk asks for each streamed layer, and for its merged experts, less often.
  if (request.weights.streamed_layers() > 0) {
    for (int64_t chunk = std::min(request.rows, kStreamedRows); chunk > wanted_chunk; chunk /= 2) {
      if (!fill(chunk, request.candidates, request.dense_experts)) continue;
      keep_merged(chunk, request.candidates);
      return plan;
    }
  }
  // Most valuable first: keep the population together, keep merged experts between chunks, then give up the
  // merged ones, then shrink the chunk, then the population.
  if (fill(wanted_chunk, request.candidates, every_merged)) return plan;
  for (int64_t chunk : {wanted_chunk, smallest_chunk}) {
    for (int64_t candidates = request.candidates; candidates >= 1;
         candidates = candidates == 1 ? 0 : (candidates + 1) / 2) {
      if (!fill(chunk, candidates, request.dense_experts)) continue;
      keep_merged(chunk, candidates);
      return plan;
    }
  }
  fill(smallest_chunk, 1, request.dense_experts);
  throw Error(
      ExitCode::kRuntime, "memory",
      fmt::format(
          "the budget is too small (expected at least {} bytes: {} weights, {} activations, {} scratch, "
          "{} merged experts; got {})",
          plan.total(), plan.weights, plan.activations, plan.scratch + plan.beside, plan.merge_buffer,
          request.budget),
      "raise --memory");
}

std::string describe(const MemoryPlan& plan) {
  const auto megabytes = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  const int64_t streamed = plan.layers.streamed_layers();
  return fmt::format(
      "memory ({}): {:.1f} MB{} = weights {:.1f}{} + activations {:.1f} ({} candidates x {} rows) + scratch "
      "{:.1f} + merged experts {:.1f} ({})",
      plan.device, megabytes(plan.total()),
      plan.budget == 0 ? "" : fmt::format(" of {:.1f}", megabytes(plan.budget)), megabytes(plan.weights),
      streamed == 0 ? ""
                    : fmt::format(" ({} of {} layers streamed from {:.1f} MB of host memory)", streamed,
                                  plan.layers.streamed.size(), megabytes(plan.layers.host)),
      megabytes(plan.activations), plan.candidates, plan.chunk_rows, megabytes(plan.scratch + plan.beside),
      megabytes(plan.merge_buffer), plan.merged_experts);
}

}  // namespace eep
