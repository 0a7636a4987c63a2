// The engine through the CUDA row, whose kernels kernels/simt runs on the host: the decisions of the CPU,
// bits that depend on nothing but the plan, memory that belongs to the device.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "engine/calibration.h"
#include "engine/forward.h"
#include "kernels/gpu/gpu_uploads.h"
#include "kernels/simt/calls.h"
#include "kernels/simt/schedule.h"
#include "tests/engine/reference_model.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

constexpr double kBf16 = 0x1p-8;  // unit roundoff: what an activation loses before a matrix product

ModelConfig gpu_config(Family family) {
  ModelConfig config = tiny_config(family);
  config.dtype = DType::kBF16;
  return config;
}

std::vector<ExpertPlan> some_plans(const ModelConfig& config) {
  return {identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                        static_cast<int32_t>(config.top_k)),
          random_plan(config, 3, 2, RouterSpace::kLogits, false, 101),
          random_plan(config, 3, 2, RouterSpace::kLogits, true, 102),
          random_plan(config, 3, 2, RouterSpace::kProbabilities, true, 103)};
}

Prompts some_prompts(const ModelConfig& config) {
  PromptBuilder builder;
  const std::vector<int32_t> stem = random_tokens(config, 9, 7);
  for (uint32_t i = 0; i < 4; ++i) {
    std::vector<int32_t> tokens(stem.begin(), stem.begin() + 3 + 2 * static_cast<int64_t>(i % 3));
    for (int32_t token : random_tokens(config, 1 + i, 50 + i)) tokens.push_back(token);
    builder.add(tokens, static_cast<int32_t>(tokens.size()) - 1, i % 2 == 0);
  }
  return builder.build(nullptr);
}

bool same(const std::vector<TokenScore>& a, const std::vector<TokenScore>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(TokenScore)) == 0;
}

}  // namespace

TEST_CASE("gpu backend: logits as near to the CPU's as 16-bit activations are") {
  int compared = 0;
  for (const Family family : kFamilies) {
    for (DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      ModelConfig config = gpu_config(family);
      config.dtype = dtype;
      const SyntheticModel model(config, 11);
      const Weights on_cpu(model.raw, cpu_ops()), on_gpu(model.raw, simt_ops());
      CHECK(on_gpu.vocabulary().dtype == (dtype == DType::kF16 ? DType::kF16 : DType::kBF16));
      PopulationForward cpu(on_cpu, 0), gpu(on_gpu, 0);
      const std::vector<int32_t> tokens = random_tokens(config, 7, 3);
      for (const ExpertPlan& plan : some_plans(config)) {
        CAPTURE(family_name(family));
        CAPTURE(dtype_name(dtype));
        ReferenceModel reference(model.raw, plan);
        reference.logits(tokens);
        // Where two experts are nearly equal, either choice is right.
        const double roundings =
            static_cast<double>(4 * config.num_layers + 2) + (dtype == DType::kF32 ? 10 : 0);
        if (reference.smallest_margin < 0.02) continue;
        const std::vector<float> expected = cpu.logits(plan, tokens), actual = gpu.logits(plan, tokens);
        double difference = 0, size = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
          difference += std::pow(static_cast<double>(actual[i]) - static_cast<double>(expected[i]), 2);
          size += std::pow(static_cast<double>(expected[i]), 2);
        }
        // Four times a layer, and twice at the end, what a product reads is rounded to 16 bits: each moves
        // the result by at most the unit roundoff of its share. f32 weights are rounded as well.
        CHECK(std::sqrt(difference) <= roundings * kBf16 * std::sqrt(size));
        ++compared;
      }
    }
  }
  MESSAGE(compared << " plans compared");
  CHECK(compared >= 9);
}

TEST_CASE("gpu backend: a candidate's bits do not depend on population, memory, or the order of threads") {
  for (const Family family : kFamilies) {
    CAPTURE(family_name(family));
    const ModelConfig config = gpu_config(family);
    const SyntheticModel model(config, 5);
    const Weights weights(model.raw, simt_ops());
    const Prompts prompts = some_prompts(config);
    const std::vector<ExpertPlan> plans = some_plans(config);
    PopulationForward forward(weights, 0);
    std::vector<std::vector<TokenScore>> alone;
    for (const ExpertPlan& plan : plans) alone.push_back(forward.score(std::span(&plan, 1), prompts)[0]);
    const size_t total = forward.memory_plan(plans, prompts).total();
    for (const simt::Schedule& schedule : simt::kSchedules) {
      simt::schedule = schedule;
      const double share = schedule.order == simt::Order::kForward ? 0 : 0.9;
      Ops ops = simt_ops();
      ops.block_rows = [](int64_t, int64_t) { return int64_t{24}; };  // one or two streams of a chunk
      const Weights small_blocks(model.raw, ops);
      PopulationForward limited(small_blocks, static_cast<size_t>(share * static_cast<double>(total)));
      const auto together = limited.score(plans, prompts);
      for (size_t i = 0; i < plans.size(); ++i) CHECK(same(together[i], alone[i]));
    }
    simt::schedule = {};
  }
}

TEST_CASE("gpu backend: merging beside attention changes no bit, as late as it may and at once") {
  const ModelConfig config = gpu_config(Family::kQwen2Moe);
  const SyntheticModel model(config, 7);
  const Weights weights(model.raw, simt_ops());
  const Prompts prompts = some_prompts(config);
  const std::vector<ExpertPlan> plans = some_plans(config);
  PopulationForward plain(weights, 0);
  const auto expected = plain.score(plans, prompts);
  const size_t total = plain.memory_plan(plans, prompts).total();
  for (const bool at_once : {false, true}) {
    for (const bool streamed : {false, true}) {  // the other work: at once, or as late as it may
      for (const double share : {0.0, 0.9}) {
        CAPTURE(at_once);
        CAPTURE(streamed);
        CAPTURE(share);
        simt::Stream stream;
        gpu::BesideStream beside;
        beside.at_once = at_once;
        Device device = open_simt(0);
        device.stream = streamed ? &stream : nullptr;
        device.beside = &beside;
        {
          const Weights beside_weights(model.raw, {simt_ops(), device});
          PopulationForward forward(beside_weights, static_cast<size_t>(share * static_cast<double>(total)));
          const auto scores = forward.score(plans, prompts);
          for (size_t i = 0; i < plans.size(); ++i) CHECK(same(scores[i], expected[i]));
        }
        CHECK(at_once == (beside.stream.added() == 0));  // something was merged beside
        close_simt(device);
      }
    }
  }
}

TEST_CASE("gpu backend: generation equals repeated full passes") {
  const ModelConfig config = gpu_config(Family::kQwen2Moe);
  const SyntheticModel model(config, 21);
  const Weights weights(model.raw, simt_ops());
  PopulationForward forward(weights, 0);
  const std::vector<ExpertPlan> plans = {random_plan(config, 3, 2, RouterSpace::kLogits, true, 30),
                                         random_plan(config, 3, 2, RouterSpace::kLogits, false, 31)};
  const std::vector<std::vector<std::vector<int32_t>>> prompts = {
      {random_tokens(config, 3, 60), random_tokens(config, 8, 61)}, {random_tokens(config, 1, 62)}};
  GenerateOptions options;
  options.max_new = 4;
  options.ignore_eos = true;
  const auto made = forward.generate(plans, prompts, options, nullptr);
  for (size_t candidate = 0; candidate < plans.size(); ++candidate) {
    for (size_t i = 0; i < prompts[candidate].size(); ++i) {
      std::vector<int32_t> tokens = prompts[candidate][i], expected;
      while (expected.size() < 4) {
        PromptBuilder builder;
        builder.add(tokens, static_cast<int32_t>(tokens.size()), true);
        const auto scores = forward.score(std::span(&plans[candidate], 1), builder.build(nullptr));
        expected.push_back(scores[0].back().argmax);
        tokens.push_back(expected.back());
      }
      CHECK(made[candidate][i] == expected);
    }
  }
}

TEST_CASE("gpu backend: a decoding step asks the device for the same few things whatever the sequences") {
  for (const Family family : kFamilies) {
    CAPTURE(family_name(family));
    const ModelConfig config = gpu_config(family);
    const SyntheticModel model(config, 22);
    const Weights weights(model.raw, simt_ops());
    const std::vector<ExpertPlan> plans = {random_plan(config, 3, 2, RouterSpace::kLogits, true, 30),
                                           random_plan(config, 3, 2, RouterSpace::kLogits, false, 31)};
    // Prompts and two steps, less prompts and one step.
    const auto calls_of_a_step = [&](uint32_t sequences) {
      std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size());
      for (uint32_t i = 0; i < sequences; ++i)
        for (auto& own : prompts) own.push_back(random_tokens(config, 2, 60 + i));
      int64_t calls[2];
      for (const int32_t steps : {1, 2}) {
        PopulationForward forward(weights, 0);
        simt::calls = {};
        forward.generate(plans, prompts, {steps + 1, true}, nullptr);
        calls[steps - 1] = simt::calls.all();
      }
      return calls[1] - calls[0];
    };
    const int64_t few = calls_of_a_step(1), many = calls_of_a_step(20);
    MESSAGE(many << " calls a step of " << config.num_layers << " layers");
    CHECK(many == few);
    const int64_t around = 12;  // embedding, scores, counts
    CHECK(many <= 40 * config.num_layers + around);
  }
}

TEST_CASE("gpu backend: a chunk of prompts asks the device for the same few things whatever the population") {
  for (const Family family : kFamilies) {
    CAPTURE(family_name(family));
    const ModelConfig config = gpu_config(family);
    const SyntheticModel model(config, 23);
    const Weights weights(model.raw, simt_ops());
    const Prompts prompts = some_prompts(config);
    // Plans that differ in every layer, so that each has a stream of its own.
    const auto calls_of = [&](uint32_t population) {
      std::vector<ExpertPlan> plans;
      for (uint32_t i = 0; i < population; ++i)
        plans.push_back(random_plan(config, 3, 2, RouterSpace::kLogits, true, 200 + i));
      PopulationForward forward(weights, 0);
      simt::calls = {};
      forward.score(plans, prompts);
      return simt::calls;
    };
    const simt::Calls few = calls_of(2), many = calls_of(9);
    MESSAGE(many.launches << " launches and " << many.copies << " copies for " << config.num_layers
                          << " layers");
    CHECK(many.launches == few.launches);
    CHECK(many.copies == few.copies + 9 - 2);  // each candidate's scores come back in a copy of their own
    const int64_t around = 12;                 // embedding, scores, counts
    CHECK(few.launches + few.copies <= 40 * config.num_layers + around);
  }
}

TEST_CASE("gpu backend: a profiler sees each launch under its layer and its op") {
  const ModelConfig config = gpu_config(Family::kQwen2Moe);
  const SyntheticModel model(config, 24);
  const Weights weights(model.raw, simt_ops());
  PopulationForward forward(weights, 0);
  simt::ranges.launches.clear();
  simt::ranges.noting = true;
  forward.score(some_plans(config), some_prompts(config));
  simt::ranges.noting = false;
  CHECK(simt::ranges.open.empty());
  std::set<std::string> outside;
  std::map<std::string, std::set<std::string>> inside;  // layer -> ops
  for (const std::vector<std::string>& names : simt::ranges.launches) {
    REQUIRE(names.size() <= 2);
    if (names.size() == 1) outside.insert(names[0]);
    if (names.size() == 2) inside[names[0]].insert(names[1]);
  }
  CHECK(outside.contains("embed"));
  CHECK(outside.contains("score"));
  CHECK_FALSE(outside.contains("expert_ffn"));
  CHECK(static_cast<int64_t>(inside.size()) == config.num_layers);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::set<std::string>& ops = inside["layer " + std::to_string(layer)];
    CHECK(ops.contains("attention"));
    CHECK(ops.contains("expert_ffn"));
    for (const std::string op : {"router", "dispatch", "expert_merge"}) {
      CAPTURE(op);
      CHECK(ops.contains(op) == (config.sparse[static_cast<size_t>(layer)] != 0));
    }
  }
}

TEST_CASE("gpu backend: calibration counts as the CPU does") {
  const ModelConfig config = gpu_config(Family::kMixtral);
  const SyntheticModel model(config, 31);
  const Weights on_cpu(model.raw, cpu_ops()), on_gpu(model.raw, simt_ops());
  PromptBuilder builder;
  for (uint32_t i = 0; i < 5; ++i) builder.add(random_tokens(config, 8, 40 + i), 1, true);
  const Prompts prompts = builder.build(nullptr);
  CalibrationOptions options;
  options.subset_kept = {3};
  options.subset_batch = 16;
  options.subset_tokens = 24;
  const ExpertStatistics cpu = calibrate(on_cpu, 0, prompts, options);
  const ExpertStatistics gpu = calibrate(on_gpu, 0, prompts, options);
  REQUIRE(gpu.layers.size() == cpu.layers.size());
  CHECK(gpu.tokens == cpu.tokens);
  // The first layer's input differs by no rounding before its router but those of one attention block: sums
  // agree within a few roundings to 16 bits each.
  const LayerStatistics &a = cpu.layers[0], &b = gpu.layers[0];
  double total = 0;
  for (size_t e = 0; e < a[ExpertSum::kCount].size(); ++e) {
    total += b[ExpertSum::kCount][e];
    CHECK(b[ExpertSum::kProbability][e] == doctest::Approx(a[ExpertSum::kProbability][e]).epsilon(8 * kBf16));
    CHECK(std::fabs(b[ExpertSum::kCount][e] - a[ExpertSum::kCount][e]) <= 1);
  }
  CHECK(total == static_cast<double>(gpu.tokens * config.top_k));
  for (size_t s = 0; s < a.subset_errors[0].error.size(); ++s) {
    CHECK(b.subset_errors[0].error[s] == doctest::Approx(a.subset_errors[0].error[s]).epsilon(16 * kBf16));
  }
}
