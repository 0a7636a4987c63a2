// The population forward pass: against the double-precision model, and bit for bit against itself under every
// way of cutting the work.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "engine/forward.h"
#include "kernels/common/error.h"
#include "kernels/cpu/cpu_target.h"
#include "tests/engine/reference_model.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

Device cpu(int threads) {
  Device device;
  device.threads = threads;
  return device;
}

// Plans of every kind: identity, one-hot, dense, both spaces, kept = top_k, top_k above kept, duplicate rows,
// different counts per group.
std::vector<ExpertPlan> plans_of_every_kind(const ModelConfig& config) {
  const int32_t experts = static_cast<int32_t>(config.num_experts),
                top_k = static_cast<int32_t>(config.top_k);
  std::vector<ExpertPlan> plans{identity_plan(config.sparse, experts, top_k)};
  uint32_t seed = 100;
  for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
    for (bool dense : {false, true}) {
      plans.push_back(random_plan(config, experts - 1, 2, space, dense, ++seed));
      plans.push_back(random_plan(config, top_k, 1, space, dense, ++seed));
      plans.push_back(random_plan(config, 1, 2, space, dense, ++seed));
    }
  }
  ExpertPlan twin = random_plan(config, 3, 2, RouterSpace::kLogits, true, ++seed);
  for (auto* matrix : {&twin.groups[0].router_mapping, &twin.groups[0].expert_merging}) {
    std::copy(matrix->begin(), matrix->begin() + experts,
              matrix->begin() + experts);  // two equal rows: exact ties
  }
  plans.push_back(twin);
  ExpertPlan uneven = random_plan(config, 3, 2, RouterSpace::kLogits, false, ++seed);
  uneven.groups[1] = random_plan(config, 2, 2, RouterSpace::kLogits, true, ++seed).groups[1];
  plans.push_back(uneven);
  return plans;
}

Prompts some_prompts(const ModelConfig& config) {
  PromptBuilder builder;
  const std::vector<int32_t> base = random_tokens(config, 21, 7);
  for (uint32_t i = 0; i < 12; ++i) {
    // Three stems with branches of different depth, and loners of 1 to 4 tokens.
    std::vector<int32_t> tokens(base.begin(), base.begin() + 3 + static_cast<int64_t>(i % 3) * 6);
    tokens[0] = static_cast<int32_t>(i % 3);
    for (int32_t token : random_tokens(config, 1 + i % 4, 50 + i)) tokens.push_back(token);
    builder.add(tokens, static_cast<int32_t>(tokens.size()) - 1 - static_cast<int32_t>(i % 2), i % 2 == 0);
    builder.add(random_tokens(config, 1 + i % 4, 90 + i), 1, true);
  }
  return builder.build(nullptr);
}

bool same_bits(const std::vector<TokenScore>& a, const std::vector<TokenScore>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(TokenScore)) == 0;
}

}  // namespace

TEST_CASE("forward: logits of every family and kind of plan agree with double precision") {
  for (const Family family : kFamilies) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      ModelConfig config = tiny_config(family);
      config.dtype = dtype;
      const SyntheticModel model(config, 11);
      const Weights weights(model.raw, cpu_ops());
      PopulationForward forward(weights, 0);
      const std::vector<int32_t> tokens = random_tokens(config, 17, 3);
      size_t index = 0;
      for (const ExpertPlan& plan : plans_of_every_kind(config)) {
        CAPTURE(family_name(family));
        CAPTURE(dtype_name(dtype));
        CAPTURE(index++);
        ReferenceModel reference(model.raw, plan);
        const std::vector<Vec> expected = reference.logits(tokens);
        // Parting at a top-k boundary needs a gap below the accumulated rounding error of the router's input.
        REQUIRE(reference.smallest_margin > 1e-5);
        const std::vector<float> logits = forward.logits(plan, tokens);
        double difference = 0, size = 0;
        for (size_t t = 0; t < tokens.size(); ++t) {
          for (size_t v = 0; v < expected[t].size(); ++v) {
            const double error = static_cast<double>(logits[t * expected[t].size() + v]) - expected[t][v];
            difference += error * error;
            size += expected[t][v] * expected[t][v];
          }
        }
        // 2e-5 relative is the promise for f32 arithmetic; merged 16-bit weights may round the other way
        // where the f32 sum lies within its error of a tie.
        const double bound = dtype == DType::kF32 ? 2e-5 : 2e-4;
        CHECK(std::sqrt(difference) < bound * std::sqrt(size));
      }
    }
  }
}

TEST_CASE("forward: a candidate's bits do not depend on population, order, chunks, memory or threads") {
  for (const Family family : kFamilies) {
    ModelConfig config = tiny_config(family);
    config.dtype = DType::kBF16;
    const SyntheticModel model(config, 5);
    const Weights weights(model.raw, cpu_ops());
    const Prompts prompts = some_prompts(config);
    const std::vector<ExpertPlan> plans = plans_of_every_kind(config);
    CAPTURE(family_name(family));

    PopulationForward forward(weights, 0);
    std::vector<std::vector<TokenScore>> alone;
    for (const ExpertPlan& plan : plans) alone.push_back(forward.score(std::span(&plan, 1), prompts)[0]);
    const MemoryPlan unlimited = forward.memory_plan(plans, prompts);

    std::vector<ExpertPlan> reversed(plans.rbegin(), plans.rend());
    reversed.push_back(plans[2]);  // and one twice
    for (int threads : {1, 2, 3}) {
      const Weights of_threads(model.raw, {cpu_ops(), cpu(threads)});
      for (double share : {0.0, 1.0, 0.97, 0.9, 0.8}) {
        CAPTURE(threads);
        CAPTURE(share);
        const size_t budget = static_cast<size_t>(share * static_cast<double>(unlimited.total()));
        PopulationForward limited(of_threads, budget);
        if (budget != 0) CHECK(limited.memory_plan(plans, prompts).total() <= budget);
        const auto together = limited.score(plans, prompts);
        const auto backwards = limited.score(reversed, prompts);
        for (size_t i = 0; i < plans.size(); ++i) {
          CAPTURE(i);
          CHECK(same_bits(together[i], alone[i]));
          CHECK(same_bits(backwards[plans.size() - 1 - i], alone[i]));
        }
        CHECK(same_bits(backwards.back(), alone[2]));
      }
    }
  }
}

TEST_CASE("forward: a sequence's bits do not depend on what it shares a trie with") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 6);
  const Weights weights(model.raw, cpu_ops());
  PopulationForward forward(weights, 0);
  const ExpertPlan plan = random_plan(config, 3, 3, RouterSpace::kProbabilities, true, 4);
  std::vector<std::vector<int32_t>> sequences;
  for (uint32_t i = 0; i < 9; ++i) {
    std::vector<int32_t> tokens = random_tokens(config, 14, 1 + i / 4);
    tokens.resize(14 - i % 4);
    tokens.push_back(static_cast<int32_t>(i));
    sequences.push_back(tokens);
  }
  PromptBuilder all;
  for (const auto& tokens : sequences) all.add(tokens, 1, true);
  std::vector<PromptBuilder::Sequence> places;
  const Prompts together = all.build(&places);
  const auto shared = forward.score(std::span(&plan, 1), together)[0];
  for (size_t i = 0; i < sequences.size(); ++i) {
    PromptBuilder one;
    one.add(sequences[i], 1, true);
    std::vector<PromptBuilder::Sequence> own;
    const Prompts alone = one.build(&own);
    const auto scores = forward.score(std::span(&plan, 1), alone)[0];
    for (size_t j = 0; j < own[0].scores.size(); ++j) {
      const TokenScore &a = scores[static_cast<size_t>(own[0].scores[j])],
                       &b = shared[static_cast<size_t>(places[i].scores[j])];
      CHECK(std::memcmp(&a, &b, sizeof a) == 0);
    }
  }
}

TEST_CASE("forward: the same bits on every instruction set of this machine") {
  const ModelConfig config = [] {
    ModelConfig c = tiny_config(Family::kQwen2Moe);
    c.dtype = DType::kF16;
    return c;
  }();
  const SyntheticModel model(config, 8);
  const Prompts prompts = some_prompts(config);
  const std::vector<ExpertPlan> plans = plans_of_every_kind(config);
  const std::string best = cpu_target();
  REQUIRE(cpu_targets().size() >= 2);  // at least the plain std::fma path beside the native one
  std::vector<std::vector<TokenScore>> expected;
  for (const std::string& target : cpu_targets()) {
    CAPTURE(target);
    set_cpu_target(target);
    const Weights weights(model.raw, cpu_ops());
    PopulationForward forward(weights, 0);
    const auto scores = forward.score(plans, prompts);
    if (expected.empty()) expected = scores;
    for (size_t i = 0; i < plans.size(); ++i) CHECK(same_bits(scores[i], expected[i]));
  }
  set_cpu_target(best);
}

TEST_CASE("forward: what candidates share is computed once, and counted") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 9);
  const Weights weights(model.raw, cpu_ops());
  PopulationForward forward(weights, 0);
  PromptBuilder builder;
  builder.add(random_tokens(config, 10, 1), 9, true);
  const Prompts prompts = builder.build(nullptr);
  const ExpertPlan plan = random_plan(config, 3, 3, RouterSpace::kLogits, false, 1);
  forward.score(std::span(&plan, 1), prompts);
  const int64_t one = forward.work().tokens_computed;
  CHECK(forward.work().tokens_asked == 10);
  CHECK(one < 10);  // the last layer finishes the two scored rows alone
  forward.reset_work();
  const std::vector<ExpertPlan> equal(5, plan);
  forward.score(equal, prompts);
  CHECK(forward.work().tokens_computed == one);
  CHECK(forward.work().tokens_asked == 50);
  forward.reset_work();
  std::vector<ExpertPlan> last_differs(4, plan);
  for (size_t i = 0; i < 4; ++i) {
    last_differs[i].groups[2] =
        random_plan(config, 3, 3, RouterSpace::kLogits, false, 20 + static_cast<uint32_t>(i)).groups[2];
  }
  forward.score(last_differs, prompts);
  CHECK(forward.work().tokens_computed < 2 * one);
}

TEST_CASE("forward: router sums near zero or below are counted and give finite scores") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 10);
  const Weights weights(model.raw, cpu_ops());
  PopulationForward forward(weights, 0);
  PromptBuilder builder;
  builder.add(random_tokens(config, 10, 1), 1, true);
  const Prompts prompts = builder.build(nullptr);
  std::vector<ExpertPlan> plans(2, random_plan(config, 3, 1, RouterSpace::kProbabilities, false, 1));
  std::fill(plans[0].groups[0].router_mapping.begin(), plans[0].groups[0].router_mapping.end(), 0.0f);
  for (float& value : plans[1].groups[0].router_mapping) value = -value;
  const auto scores = forward.score(plans, prompts);
  CHECK(forward.work().router.tiny_sums > 0);
  CHECK(forward.work().router.negative_sums > 0);
  for (const auto& candidate : scores) {
    for (const TokenScore& score : candidate) CHECK(std::isfinite(score.log_probability));
  }
}

TEST_CASE("forward: impossible input is refused") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 12);
  const Weights weights(model.raw, cpu_ops());
  PopulationForward forward(weights, 0);
  const ExpertPlan plan = identity_plan(config.sparse, 5, 2);
  const std::vector<int32_t> outside{1, 53}, negative{-1};
  CHECK_THROWS_WITH(forward.logits(plan, outside),
                    "token: id outside the vocabulary (expected 0..52, got 53)");
  CHECK_THROWS_AS(forward.logits(plan, negative), Error);
  const std::vector<int32_t> longer(129, 1);
  CHECK_THROWS_WITH(forward.logits(plan, longer),
                    "prompt: sequence too long for the model (expected at most 128 tokens, got 129)");
  PopulationForward tiny(weights, 1000);
  CHECK_THROWS_AS(tiny.logits(plan, std::vector<int32_t>{1}), Error);
}

TEST_CASE("forward: progress grows layer by layer to the whole, however the work is cut") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 5);
  const Weights weights(model.raw, {cpu_ops(), cpu(2)});
  const std::vector<ExpertPlan> plans = plans_of_every_kind(config);
  const Prompts prompts = some_prompts(config);
  for (size_t memory : {size_t{0}, Weights::packed_bytes(config, cpu_ops()) + 150000}) {
    PopulationForward forward(weights, memory);
    std::vector<double> shares;
    forward.set_progress([&](double share) { shares.push_back(share); });
    forward.score(plans, prompts);
    CHECK(shares.size() > static_cast<size_t>(config.num_layers));
    CHECK(shares.front() > 0);
    CHECK(std::is_sorted(shares.begin(), shares.end()));
    CHECK(shares.back() == 1);
    CHECK(std::count(shares.begin(), shares.end(), 1.0) == 1);  // an end is told once
  }
}
