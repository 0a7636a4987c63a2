#include "engine/observe.h"

#include <algorithm>
#include <span>

#include "engine/chunk_pass.h"
#include "engine/memory_plan.h"
#include "engine/prompt_chunks.h"

namespace eep {

namespace {

MemoryPlan plan_pass(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                     const MixtureObserver& observer, const LayerVariants& variants) {
  MemoryRequest request = request_for(weights, memory_budget);
  request.rows = prompts.rows();
  request.most_block_rows = 4096;  // observers take blocks to the host
  request.largest_tree = largest_tree_rows(prompts);
  for (const int32_t position : prompts.positions)
    request.positions = std::max(request.positions, int64_t{position} + 1);
  request.beside = observer.memory();
  request.slots = variants.slots();
  request.dense_experts = variants.most_merged_rows();
  return plan_memory(weights, request);
}

ExpertPlan unchanged(const ModelConfig& config) {
  return identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                       static_cast<int32_t>(config.top_k));
}

}  // namespace

int64_t observed_chunk_rows(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                            const MixtureObserver& observer) {
  const ExpertPlan identity = unchanged(weights.config());
  const LayerVariants variants(weights.config(), std::span<const ExpertPlan>(&identity, 1));
  return plan_pass(weights, memory_budget, prompts, observer, variants).chunk_rows;
}

void observe_mixtures(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                      MixtureObserver& observer, int64_t first_row,
                      const std::function<void(int64_t)>& chunk_done, const ExpertPlan* plan_or_none,
                      int* under_way) {
  const ModelConfig& config = weights.config();
  // Every row is wanted: the last layer must see them all.
  Prompts every_row = prompts;
  every_row.scores.clear();
  for (int32_t row = 0; row < static_cast<int32_t>(prompts.rows()); ++row)
    every_row.scores.push_back({row, -1});
  const ExpertPlan identity = unchanged(config);
  const LayerVariants variants(
      config, std::span<const ExpertPlan>(plan_or_none != nullptr ? plan_or_none : &identity, 1));
  const MemoryPlan plan = plan_pass(weights, memory_budget, prompts, observer, variants);
  WorkCounts work;
  ChunkPass pass(weights, variants, plan, work);
  const size_t only[] = {0};
  StageLink* const link = weights.link();
  int own_under_way = 0;
  int& ahead = under_way != nullptr ? *under_way : own_under_way;
  for (const PromptChunk& chunk : cut_prompts(every_row, plan.chunk_rows, first_row)) {
    pass.run(chunk, only, &observer);
    if (link != nullptr && !link->last()) {
      pass.send_rows(chunk);
    } else if (link != nullptr) {
      link->send(0, {});
    }
    // No stage runs ahead by more than what all can hold.
    if (link != nullptr && link->first() && ++ahead >= link->stages()) {
      link->receive(link->stages() - 1);
      --ahead;
    }
    if (chunk_done) chunk_done(int64_t{chunk.row_begin} + chunk.rows);
  }
  if (under_way == nullptr) await_observed(weights, &own_under_way);
}

void await_observed(const Weights& weights, int* under_way) {
  for (; *under_way > 0; --*under_way) weights.link()->receive(weights.link()->stages() - 1);
}

}  // namespace eep
