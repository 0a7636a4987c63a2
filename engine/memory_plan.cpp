// Sizes from the config and the request; the chunk, the block and the merge buffer shrink until they fit.
#include "engine/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/weights.h"
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

// Bytes of one row's intermediates inside a layer (layer_pass.cpp allocates exactly these).
size_t scratch_row_bytes(const ModelConfig& config, int32_t slots) {
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  const int64_t width = std::max({slots * config.expert_intermediate_size, config.dense_intermediate_size,
                                  config.shared_intermediate_size});
  const int64_t floats = 2 * config.hidden_size + 2 * q + 2 * kv + config.num_experts + width +
                         (slots + 1) * config.hidden_size + 6 * slots + config.num_experts + kMergedPerBlock +
                         4;
  return static_cast<size_t>(floats) * sizeof(float);
}

}  // namespace

MemoryPlan plan_memory(const ModelConfig& config, const Ops& ops, const MemoryRequest& request) {
  const int64_t hidden = config.hidden_size;
  MemoryPlan plan;
  plan.weights = Weights::packed_bytes(config, ops);

  const size_t row_residual =
      2 * static_cast<size_t>(hidden) * sizeof(float);  // the stream before and after a split
  const size_t row_scratch = scratch_row_bytes(config, request.slots);
  const size_t merged_expert = 2 * ops.packed_bytes(config.expert_intermediate_size, hidden, config.dtype) +
                               ops.packed_bytes(hidden, config.expert_intermediate_size, config.dtype) +
                               3 * Buffer::kAlignment;
  const size_t logits = static_cast<size_t>(config.vocab_size) * sizeof(float) * 64;

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
    plan.activations = row_residual * static_cast<size_t>(chunk) * static_cast<size_t>(candidates);
    plan.scratch = row_scratch * static_cast<size_t>(plan.block_rows) + logits;
    plan.merge_buffer = merged_expert * static_cast<size_t>(merged);
    return request.budget == 0 || plan.total() <= request.budget;
  };

  // Most valuable first: keep the population together, keep merged experts between chunks, then give up the
  // merged ones, then shrink the chunk, then the population.
  if (fill(wanted_chunk, request.candidates, every_merged)) return plan;
  for (int64_t chunk : {wanted_chunk, smallest_chunk}) {
    for (int64_t candidates = request.candidates; candidates >= 1;
         candidates = candidates == 1 ? 0 : (candidates + 1) / 2) {
      if (!fill(chunk, candidates, request.dense_experts)) continue;
      if (request.dense_experts > 0) {  // what is left keeps merged experts for the next chunk
        const size_t left = request.budget - plan.total();
        const int64_t more = static_cast<int64_t>(left / merged_expert);
        fill(chunk, candidates, std::min(every_merged, request.dense_experts + more));
      }
      return plan;
    }
  }
  fill(smallest_chunk, 1, request.dense_experts);
  throw Error(
      ExitCode::kRuntime, "memory",
      fmt::format(
          "the budget is too small (expected at least {} bytes: {} weights, {} activations, {} scratch, "
          "{} merged experts; got {})",
          plan.total(), plan.weights, plan.activations, plan.scratch, plan.merge_buffer, request.budget),
      "raise --memory");
}

std::string describe(const MemoryPlan& plan) {
  const auto megabytes = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  return fmt::format(
      "memory: {:.1f} MB = weights {:.1f} + activations {:.1f} ({} candidates x {} rows) + scratch {:.1f} + "
      "merged experts "
      "{:.1f} ({})",
      megabytes(plan.total()), megabytes(plan.weights), megabytes(plan.activations), plan.candidates,
      plan.chunk_rows, megabytes(plan.scratch), megabytes(plan.merge_buffer), plan.merged_experts);
}

}  // namespace eep
