// Experts skipped token by token: thresholds are the medians of what the router gives, and the passes heed
// them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/forward.h"
#include "engine/skip_thresholds.h"
#include "kernels/common/error.h"
#include "tests/engine/reference_model.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

ExpertPlan identity_of(const ModelConfig& config, int32_t top_k) {
  return identity_plan(config.sparse, static_cast<int32_t>(config.num_experts), top_k);
}

ExpertPlan with_thresholds(ExpertPlan plan, float value) {
  for (PlanGroup& group : plan.groups) group.skip_below.assign(group.layers.size(), value);
  return plan;
}

std::vector<float> logits_of(const SyntheticModel& model, const Ops& ops, const ExpertPlan& plan,
                             Taps* taps = nullptr) {
  const Weights weights(model.raw, ops);
  PopulationForward forward(weights, 0);
  return forward.logits(plan, random_tokens(model.raw.config, 40, 3), taps);
}

}  // namespace

TEST_CASE("skipping: never is the plan itself, always is one active expert, to the bit, on both backends") {
  for (const Family family : {Family::kMixtral, Family::kQwen2Moe}) {  // renormalised or not
    ModelConfig config = tiny_config(family);
    config.dtype = DType::kBF16;
    const SyntheticModel model(config, 21);
    for (const Ops* ops : {&cpu_ops(), &simt_ops()}) {
      for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
        for (bool dense : {false, true}) {
          CAPTURE(family_name(family));
          CAPTURE(ops->name);
          const ExpertPlan all = random_plan(config, 4, 2, space, dense, 7);
          ExpertPlan one = all;
          one.top_k = 1;
          CHECK(logits_of(model, *ops, with_thresholds(all, 0)) == logits_of(model, *ops, all));
          CHECK(logits_of(model, *ops, with_thresholds(all, 1)) == logits_of(model, *ops, one));
          CHECK(logits_of(model, *ops, with_thresholds(all, 0.5f)) != logits_of(model, *ops, all));
        }
      }
    }
  }
}

TEST_CASE("skipping: logits of every family agree with double precision") {
  for (const Family family : kFamilies) {
    const ModelConfig config = tiny_config(family);
    const SyntheticModel model(config, 11);
    const std::vector<int32_t> tokens = random_tokens(config, 17, 3);
    for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
      CAPTURE(family_name(family));
      CAPTURE(static_cast<int>(space));
      ExpertPlan plan = with_thresholds(random_plan(config, 4, 2, space, true, 7), 0.7f);
      plan.groups.back().skip_below.back() = 0.2f;
      ReferenceModel reference(model.raw, plan);
      const std::vector<Vec> expected = reference.logits(tokens);
      REQUIRE(reference.smallest_margin > 1e-5);  // as in test_forward.cpp, and so is the bound
      const Weights weights(model.raw, cpu_ops());
      PopulationForward forward(weights, 0);
      const std::vector<float> logits = forward.logits(plan, tokens);
      double difference = 0, size = 0;
      for (size_t i = 0; i < logits.size(); ++i) {
        const double wanted = expected[i / expected[0].size()][i % expected[0].size()];
        difference += std::pow(static_cast<double>(logits[i]) - wanted, 2);
        size += wanted * wanted;
      }
      CHECK(std::sqrt(difference) < 2e-5 * std::sqrt(size));
    }
  }
}

TEST_CASE("skipping: rows kept behind a layer are another plan's only where both skip alike") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 24);
  const Weights weights(model.raw, cpu_ops());
  // Groups of one layer each: rows are kept behind every one. The second generation differs in one threshold.
  const ExpertPlan plan = with_thresholds(random_plan(config, 4, 3, RouterSpace::kLogits, false, 8), 0.5f);
  ExpertPlan first_differs = plan, last_differs = plan, none = plan;
  first_differs.groups[0].skip_below[0] = 0.9f;
  last_differs.groups[2].skip_below[0] = 0.9f;
  for (PlanGroup& group : none.groups) group.skip_below.clear();
  PromptBuilder builder;
  for (uint32_t i = 0; i < 4; ++i) builder.add(random_tokens(config, 12 + i, 70 + i), 2, true);
  const Prompts prompts = builder.build(nullptr);
  PopulationForward plain(weights, 0), kept(weights, 0);
  kept.keep_layers(size_t{1} << 30);
  kept.score(std::span(&plan, 1), prompts);
  CHECK(kept.work().tokens_kept == 0);
  int64_t taken = 0;
  for (const ExpertPlan* child : {&first_differs, &none, &last_differs}) {
    const auto scores = kept.score(std::span(child, 1), prompts)[0];
    const auto expected = plain.score(std::span(child, 1), prompts)[0];
    REQUIRE(scores.size() == expected.size());
    for (size_t at = 0; at < scores.size(); ++at) {
      CHECK(scores[at].log_probability == expected[at].log_probability);
      CHECK(scores[at].argmax == expected[at].argmax);
    }
    CHECK((kept.work().tokens_kept > taken) == (child == &last_differs));
    taken = kept.work().tokens_kept;
  }
}

TEST_CASE("skipping: decoding heeds it as full passes do") {
  for (Family family : {Family::kMixtral, Family::kGlm4Moe, Family::kGptOss}) {
    const ModelConfig config = tiny_config(family);
    const SyntheticModel model(config, 25);
    const Weights weights(model.raw, cpu_ops());
    PopulationForward forward(weights, 0);
    std::vector<ExpertPlan> plans;
    for (float value : {0.0f, 0.6f, 1.0f})
      plans.push_back(with_thresholds(random_plan(config, 4, 2, RouterSpace::kLogits, true, 9), value));
    const std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size(),
                                                                 {random_tokens(config, 11, 4)});
    GenerateOptions options;
    options.max_new = 12;
    const auto made = forward.generate(plans, prompts, options, nullptr);
    for (size_t candidate = 0; candidate < plans.size(); ++candidate) {
      CAPTURE(candidate);
      std::vector<int32_t> tokens = prompts[candidate][0];
      for (const int32_t token : made[candidate][0]) {
        PromptBuilder builder;
        builder.add(tokens, static_cast<int32_t>(tokens.size()), true);
        const auto scores = forward.score(std::span(&plans[candidate], 1), builder.build(nullptr));
        CHECK(scores[0].back().argmax == token);
        tokens.push_back(token);
      }
      CHECK(tokens.size() > prompts[candidate][0].size());
    }
  }
}

TEST_CASE("skipping: a population of plans that skip differently scores as each alone") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 22);
  const Weights weights(model.raw, cpu_ops());
  std::vector<ExpertPlan> plans;
  for (float value : {0.0f, 0.3f, 0.6f, 1.0f})
    plans.push_back(with_thresholds(identity_of(config, 2), value));
  plans.push_back(plans[2]);
  plans.back().groups[0].skip_below[0] = 0;  // parts from the others in one layer
  PromptBuilder builder;
  for (uint32_t i = 0; i < 5; ++i) builder.add(random_tokens(config, 9 + 3 * i, 60 + i), 2, true);
  const Prompts prompts = builder.build(nullptr);
  PopulationForward forward(weights, 0);
  const auto together = forward.score(plans, prompts);
  for (size_t i = 0; i < plans.size(); ++i) {
    const auto alone = forward.score(std::span(&plans[i], 1), prompts)[0];
    for (size_t at = 0; at < alone.size(); ++at) {
      CHECK(alone[at].log_probability == together[i][at].log_probability);
      CHECK(alone[at].argmax == together[i][at].argmax);
    }
  }
}

TEST_CASE(
    "skipping: thresholds are the lower medians of second over first weight, half of the tokens stay above") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 23);
  const Weights weights(model.raw, cpu_ops());
  const ExpertPlan plan = identity_of(config, 2);
  Taps taps{Backend(cpu_ops())};
  logits_of(model, cpu_ops(), plan, &taps);
  PromptBuilder builder;
  builder.add(random_tokens(config, 40, 3), 1, true);
  const SkipThresholds found = skip_thresholds(weights, 0, plan, builder.build(nullptr));
  REQUIRE(found.of_layer.size() == 3);
  int64_t skipped = 0;
  for (int32_t layer = 0; layer < 3; ++layer) {
    std::vector<float> ratios;
    for (const Tap& tap : taps.list()) {
      if (tap.name != "layer." + std::to_string(layer) + ".router.weight") continue;
      for (size_t at = 0; at < tap.values.size(); at += 2)
        ratios.push_back(tap.values[at + 1] / tap.values[at]);
    }
    REQUIRE(ratios.size() == 40);
    std::sort(ratios.begin(), ratios.end());
    CHECK(found.of_layer[static_cast<size_t>(layer)] == ratios[19]);
    skipped += std::lower_bound(ratios.begin(), ratios.end(), ratios[19]) - ratios.begin();
  }
  CHECK(found.active == doctest::Approx(2 - static_cast<double>(skipped) / 120));
  const ExpertPlan skipping = skipping_plan(plan, found);
  CHECK(skipping.groups[0].skip_below == found.of_layer);
  // It is for two active experts.
  for (const ExpertPlan& wrong : {identity_of(config, 3), identity_of(config, 1), skipping}) {
    CHECK_THROWS_AS(skip_thresholds(weights, 0, wrong, builder.build(nullptr)), Error);
  }
}
