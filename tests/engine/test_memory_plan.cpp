// Plans for a GPU at released sizes: blocks and chunks as large as fit, and the bytes that merging then
// moves.
#include <doctest/doctest.h>

#include "engine/forward.h"
#include "engine/merge_buffer.h"
#include "tests/engine/idle_ops.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

constexpr size_t kCard = 76000000000;  // what an 80 GB card leaves

// Half of the experts stay, and every merged row is its own.
std::vector<ExpertPlan> merging_plans(const ModelConfig& config, int32_t candidates) {
  std::vector<ExpertPlan> plans;
  for (int32_t candidate = 0; candidate < candidates; ++candidate) {
    ExpertPlan plan = identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                                    static_cast<int32_t>(config.top_k));
    for (PlanGroup& group : plan.groups) {
      group.kept = group.experts / 2;
      group.router_mapping.resize(static_cast<size_t>(group.kept) * static_cast<size_t>(group.experts));
      group.expert_merging.assign(group.router_mapping.size(), 0.5f);
      for (int32_t row = 0; row < group.kept; ++row) {
        group.expert_merging[static_cast<size_t>(row * group.experts)] =
            static_cast<float>(1 + candidate * group.kept + row);
      }
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

// Each of a row for all tokens but the last.
Prompts prompts_of(int64_t count, int64_t length) {
  PromptBuilder builder;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t> tokens(static_cast<size_t>(length), 1);
    tokens[0] = static_cast<int32_t>(i);
    builder.add(tokens, static_cast<int32_t>(length) - 1, false);
  }
  return builder.build(nullptr);
}

template <int64_t kRows>
Ops with_blocks_of() {
  Ops ops = idle_ops();
  ops.block_rows = [](int64_t, int64_t) { return kRows; };
  return ops;
}

struct Run {
  MemoryPlan plan;
  WorkCounts work;
};

Run score(const HollowModel& model, const Ops& ops, int32_t candidates, const Prompts& prompts) {
  const WeightPlan weight_plan = plan_weights(model.raw.config, ops, kCard);
  const Weights weights(model.raw, ops, weight_plan);
  PopulationForward forward(weights, kCard);
  const std::vector<ExpertPlan> plans = merging_plans(model.raw.config, candidates);
  const MemoryPlan plan = forward.memory_plan(plans, prompts);
  forward.score(plans, prompts);
  return {plan, forward.work()};
}

}  // namespace

TEST_CASE(
    "memory plan: merging a Qwen3-30B-A3B moves by blocks of 32768 rows a twelfth of what it does by 2048") {
  const HollowModel model("qwen3-30b-a3b");
  const ModelConfig& config = model.raw.config;
  const Prompts prompts = prompts_of(64, 513);
  const Run large = score(model, idle_ops(), 4, prompts);
  const Run small = score(model, with_blocks_of<2048>(), 4, prompts);
  MESSAGE(describe(large.plan));
  CHECK(large.plan.total() <= kCard);
  CHECK(large.plan.chunk_rows == 32768);
  CHECK(large.plan.block_rows == 32768);
  CHECK(large.plan.merged_at_once == 4);
  CHECK(small.plan.block_rows == 2048);

  // A chunk and layer: all base experts are read once for the four candidates, 64 experts of each are
  // written.
  const int64_t expert = static_cast<int64_t>(MergeBuffer::slot_bytes(config, idle_ops()));
  const int64_t bytes = config.num_layers * (128 + 4 * 64) * expert;
  CHECK(large.work.merge_bytes == bytes);
  CHECK(small.work.merge_bytes == 16 * bytes);
  CHECK(12 * large.work.merge_bytes <= small.work.merge_bytes);
  CHECK(large.work.tokens_computed == small.work.tokens_computed);
  MESSAGE("merging moves " << large.work.merge_bytes / large.work.tokens_computed
                           << " bytes a token, by 2048 rows "
                           << small.work.merge_bytes / small.work.tokens_computed);

  // Every stream is a block, which reads its 64 merged experts.
  CHECK(large.work.expert_bytes == config.num_layers * 4 * 64 * expert);
  CHECK(12 * large.work.expert_bytes <= small.work.expert_bytes);
}

TEST_CASE("memory plan: experts are merged for as many candidates in one read as the buffer holds") {
  const HollowModel model("mixtral-8x7b", 20);
  const ModelConfig& config = model.raw.config;
  const Prompts prompts = prompts_of(32, 257);
  const Run run = score(model, idle_ops(), 6, prompts);
  MESSAGE(describe(run.plan));
  CHECK(run.plan.total() <= kCard);
  CHECK(run.plan.chunk_rows == prompts.rows());
  const int64_t expert = static_cast<int64_t>(MergeBuffer::slot_bytes(config, idle_ops()));
  const int64_t reads = (6 + run.plan.merged_at_once - 1) / run.plan.merged_at_once;
  CHECK(run.work.merge_bytes == config.num_layers * (reads * 8 + 6 * 4) * expert);
}

TEST_CASE("memory plan: of the plans that fit a GPU the one that moves the fewest bytes of weights") {
  ModelConfig config = HollowModel("qwen3-30b-a3b").raw.config;
  const Ops& ops = simt_ops();
  MemoryRequest request;
  request.weights = plan_weights(config, ops, kCard);
  request.rows = 65536;
  request.largest_tree = request.positions = 512;
  request.slots = 8;
  request.budget = kCard;
  for (const int32_t candidates : {1, 4, 8, 64}) {
    for (const int32_t dense : {0, 64}) {
      CAPTURE(candidates);
      CAPTURE(dense);
      request.candidates = candidates;
      request.dense_experts = dense;
      const MemoryPlan plan = plan_memory(config, ops, request);
      INFO(describe(plan));
      CHECK(plan.total() <= kCard);
      CHECK(plan.block_rows == 32768);
      if (dense == 0) CHECK(plan.candidates == candidates);  // together: nothing is gained by larger chunks
      if (dense != 0) CHECK(plan.chunk_rows == 32768);
    }
  }
  // Less memory: smaller blocks, until nothing fits.
  request.candidates = 4;
  request.dense_experts = 64;
  int64_t last = 32768;
  for (size_t budget = kCard; budget > request.weights.resident + (size_t{1} << 30);
       budget -= size_t{1} << 30) {
    request.budget = budget;
    const MemoryPlan plan = plan_memory(config, ops, request);
    CHECK(plan.total() <= budget);
    CHECK(plan.block_rows <= last);
    last = plan.block_rows;
  }
  CHECK(last < 32768);
}
