// Weights that pass through a few device buffers: the bits of resident weights, whatever the order in which
// copies land; memory that is taken as planned and not inside a layer.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "engine/calibration.h"
#include "engine/forward.h"
#include "kernels/common/error.h"
#include "kernels/gpu/gpu_uploads.h"
#include "tests/engine/same_statistics.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

ModelConfig stream_config(Family family, int64_t layers) {
  ModelConfig config = tiny_config(family);
  config.dtype = DType::kBF16;
  config.num_layers = layers;
  config.sparse.resize(static_cast<size_t>(layers), 1);
  if (!config.windowed.empty()) config.windowed.resize(static_cast<size_t>(layers), 1);
  return config;
}

// The plan that streams the given layers.
WeightPlan stream_layers(const ModelConfig& config, const std::vector<uint8_t>& streamed,
                         const Ops& ops = simt_ops()) {
  WeightPlan plan;
  plan.streamed = streamed;
  plan.resident = Weights::packed_bytes(config, ops);
  for (size_t layer = 0; layer < streamed.size(); ++layer) {
    if (streamed[layer] == 0) continue;
    const size_t bytes = Weights::layer_bytes(config, ops, config.sparse[layer] != 0);
    plan.resident -= bytes;
    plan.host += bytes;
    plan.buffer = std::max(plan.buffer, bytes);
  }
  return plan;
}

std::vector<ExpertPlan> some_plans(const ModelConfig& config) {
  const int32_t groups = static_cast<int32_t>(std::min<int64_t>(2, config.sparse_layers()));
  return {identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                        static_cast<int32_t>(config.top_k)),
          random_plan(config, 3, groups, RouterSpace::kLogits, false, 101),
          random_plan(config, 3, groups, RouterSpace::kLogits, true, 102),
          random_plan(config, 3, groups, RouterSpace::kProbabilities, true, 103)};
}

Prompts some_prompts(const ModelConfig& config, uint32_t count) {
  PromptBuilder builder;
  for (uint32_t i = 0; i < count; ++i) {
    const std::vector<int32_t> tokens = random_tokens(config, 4 + i % 3, 50 + i);
    builder.add(tokens, static_cast<int32_t>(tokens.size()) - 1, i % 2 == 0);
  }
  return builder.build(nullptr);
}

// Everything that a model is asked for, as bytes.
struct Answers {
  std::vector<std::vector<TokenScore>> scores;
  std::vector<float> logits;
  std::vector<std::vector<std::vector<int32_t>>> texts;
  std::vector<double> errors;

  bool operator==(const Answers& other) const {
    if (scores.size() != other.scores.size() || texts != other.texts || errors != other.errors) return false;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (scores[i].size() != other.scores[i].size() ||
          std::memcmp(scores[i].data(), other.scores[i].data(), scores[i].size() * sizeof(TokenScore)) != 0)
        return false;
    }
    return logits.size() == other.logits.size() &&
           std::memcmp(logits.data(), other.logits.data(), logits.size() * sizeof(float)) == 0;
  }
};

Answers ask(const Weights& weights, size_t budget) {
  const ModelConfig& config = weights.config();
  const std::vector<ExpertPlan> plans = some_plans(config);
  const Prompts prompts = some_prompts(config, 5);
  PopulationForward forward(weights, budget);
  Answers answers;
  answers.scores = forward.score(plans, prompts);
  answers.logits = forward.logits(plans[2], random_tokens(config, 5, 8));
  GenerateOptions options;
  options.max_new = 3;
  options.ignore_eos = true;
  const std::vector<std::vector<std::vector<int32_t>>> begun(plans.size(), {random_tokens(config, 3, 9)});
  answers.texts = forward.generate(plans, begun, options, nullptr);
  CalibrationOptions calibration;
  calibration.subset_kept = {3};
  calibration.subset_batch = 8;
  const ExpertStatistics statistics = calibrate(weights, budget, prompts, calibration);
  for (const LayerStatistics& layer : statistics.layers) {
    answers.errors.insert(answers.errors.end(), layer[ExpertSum::kGate].begin(),
                          layer[ExpertSum::kGate].end());
    for (const SubsetErrors& errors : layer.subset_errors)
      answers.errors.insert(answers.errors.end(), errors.error.begin(), errors.error.end());
  }
  return answers;
}

// What the table's functions of memory were asked for. A table holds functions without state.
struct Taken {
  int64_t calls = 0;
  size_t bytes = 0;
} taken;

Ops counting_ops() {
  Ops ops = simt_ops();
  ops.allocate = [](size_t bytes, const Device& device) {
    ++taken.calls;
    taken.bytes += bytes;
    return simt_ops().allocate(bytes, device);
  };
  return ops;
}

}  // namespace

TEST_CASE("streaming: the bits of resident weights, for scores, logits, texts and calibration") {
  const std::vector<std::pair<Family, std::vector<uint8_t>>> cases = {
      {Family::kMixtral, {1, 1, 1}},  {Family::kQwen2Moe, {1, 1, 1, 1}}, {Family::kQwen3Moe, {0, 1, 0, 1, 1}},
      {Family::kQwen2Moe, {0, 0, 1}}, {Family::kMixtral, {1}},           {Family::kGptOss, {1, 0, 1}},
  };
  for (const auto& one : cases) {
    const Family family = one.first;
    const std::vector<uint8_t>& streamed = one.second;
    const ModelConfig config = stream_config(family, static_cast<int64_t>(streamed.size()));
    CAPTURE(family_name(family));
    CAPTURE(streamed.size());
    const SyntheticModel model(config, 5);
    const Answers resident = ask(Weights(model.raw, simt_ops()), 0);
    const Weights away(model.raw, simt_ops(), stream_layers(config, streamed));
    CHECK(ask(away, 0) == resident);
    CHECK(away.streamed_copies() > 0);
  }
}

TEST_CASE("streaming: copies may land as late as they are waited for, or at once") {
  const ModelConfig config = stream_config(Family::kMixtral, 5);
  const SyntheticModel model(config, 6);
  const Answers resident = ask(Weights(model.raw, simt_ops()), 0);
  for (const bool at_once : {false, true}) {
    CAPTURE(at_once);
    simt::Stream stream;
    gpu::UploadStream uploads;
    uploads.at_once = at_once;
    Device device = open_simt(0);
    device.stream = &stream;
    device.uploads = &uploads;
    const Weights away(model.raw, {simt_ops(), device}, stream_layers(config, {1, 1, 0, 1, 1}));
    CHECK(ask(away, 0) == resident);
  }
}

TEST_CASE("streaming: one copy of a layer serves a chunk of all candidates") {
  const ModelConfig config = stream_config(Family::kQwen3Moe, 4);
  const SyntheticModel model(config, 7);
  const Weights away(model.raw, simt_ops(), stream_layers(config, {1, 1, 1, 1}));
  PopulationForward forward(away, 0);
  const std::vector<ExpertPlan> plans = some_plans(config);
  forward.score(plans, some_prompts(config, 5));
  CHECK(away.streamed_copies() == 5);  // each layer, and the first one for a chunk that did not come
  forward.score(plans, some_prompts(config, 5));
  CHECK(away.streamed_copies() == 9);
}

TEST_CASE("streaming: a limit decides what stays on the device") {
  const ModelConfig config = stream_config(Family::kQwen2Moe, 9);
  const size_t all = Weights::packed_bytes(config, simt_ops());
  CHECK(plan_weights(config, simt_ops(), 0).streamed_layers() == 0);
  const WeightPlan roomy = plan_weights(config, simt_ops(), size_t{1} << 30);
  CHECK(roomy.streamed_layers() == 0);
  CHECK(roomy.device_bytes() == all);

  int64_t last = 0;
  int planned = 0;
  for (size_t budget = 8 * all; budget > 0; budget -= all / 16) {
    WeightPlan plan;
    try {
      plan = plan_weights(config, simt_ops(), budget);
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kRuntime);
      CHECK(std::string(error.what()).find("expected at least") != std::string::npos);
      CHECK(std::string(error.what()).find("got " + std::to_string(budget)) != std::string::npos);
      break;
    }
    ++planned;
    CHECK(plan.device_bytes() < budget);
    CHECK(plan.streamed_layers() >= last);
    CHECK(plan.resident + plan.host == all);
    last = plan.streamed_layers();
  }
  CHECK(planned > 0);
  CHECK(last == config.num_layers);  // at the smallest limit
}

TEST_CASE(
    "streaming: on the CPU layers beyond the limit are packed when a pass comes to them, to the same bits") {
  for (const Family family : kFamilies) {
    CAPTURE(family_name(family));
    const ModelConfig config = stream_config(family, 6);
    const SyntheticModel model(config, 8);
    const Answers resident = ask(Weights(model.raw, cpu_ops()), 0);
    for (const std::vector<uint8_t>& streamed :
         {std::vector<uint8_t>{1, 1, 1, 1, 1, 1}, {0, 1, 0, 1, 1, 0}, {0, 0, 0, 0, 0, 1}}) {
      const Weights away(model.raw, cpu_ops(), stream_layers(config, streamed, cpu_ops()));
      CHECK(ask(away, 0) == resident);
      CHECK(away.streamed_copies() > 0);
    }
  }
  CHECK_THROWS_AS(plan_weights(stream_config(Family::kMixtral, 6), cpu_ops(), 1), Error);
}

TEST_CASE("streaming: a limit below the weights gives the bits of none") {
  const ModelConfig config = stream_config(Family::kMixtral, 6);
  const SyntheticModel model(config, 8);
  const Answers resident = ask(Weights(model.raw, simt_ops()), 0);
  size_t budget = Weights::packed_bytes(config, simt_ops()) + 1500000;
  const WeightPlan plan = plan_weights(config, simt_ops(), budget);
  CHECK(plan.streamed_layers() > 0);
  const Weights away(model.raw, simt_ops(), plan);
  CHECK(ask(away, budget) == resident);
  PopulationForward forward(away, budget);
  const MemoryPlan memory = forward.memory_plan(some_plans(config), some_prompts(config, 5));
  CHECK(memory.total() <= budget);
  CHECK(describe(memory).find("layers streamed from") != std::string::npos);
}

TEST_CASE("memory plan: no layer takes memory, and a pass takes no more than its plan") {
  for (Family family : {Family::kMixtral, Family::kQwen2Moe, Family::kGptOss}) {
    CAPTURE(family_name(family));
    const ModelConfig config = stream_config(family, 3);
    const SyntheticModel model(config, 9);
    const Ops ops = counting_ops();
    const Weights weights(model.raw, ops, stream_layers(config, {1, 1, 1}));
    const std::vector<ExpertPlan> plans = some_plans(config);
    PopulationForward unlimited(weights, 0);
    const size_t needed = unlimited.memory_plan(plans, some_prompts(config, 1)).total();
    for (const size_t budget : {size_t{0}, needed * 2}) {
      PopulationForward forward(weights, budget);
      std::vector<int64_t> calls;
      for (const uint32_t prompts : {1u, 40u}) {  // one chunk, then many
        const Prompts asked = some_prompts(config, prompts);
        const MemoryPlan plan = forward.memory_plan(plans, asked);
        taken = {};
        forward.score(plans, asked);
        calls.push_back(taken.calls);
        CHECK(taken.bytes <= plan.total() - plan.weights);
      }
      CHECK(calls[0] == calls[1]);
      calls.clear();
      for (const int32_t length : {1, 6}) {
        GenerateOptions options;
        options.max_new = length;
        options.ignore_eos = true;
        const std::vector<std::vector<std::vector<int32_t>>> begun(plans.size(),
                                                                   {random_tokens(config, 3, 9)});
        taken = {};
        forward.generate(plans, begun, options, nullptr);
        calls.push_back(taken.calls);
      }
      CHECK(calls[0] == calls[1]);
    }
  }
}

namespace {

// The number of bytes that a refusal asks for; 0: nothing was refused.
size_t asked_by(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    const std::string text = error.what(), before = "expected at least ";
    return std::stoull(text.substr(text.find(before) + before.size()));
  }
  return 0;
}

}  // namespace

TEST_CASE("streaming: a tree of prompts that resident layers leave no room for streams more of them") {
  const ModelConfig config = stream_config(Family::kMixtral, 6);
  const SyntheticModel model(config, 8);
  PromptBuilder builder;
  for (uint32_t i = 0; i < 24; ++i) {
    std::vector<int32_t> tokens = random_tokens(config, 10, 90 + i);
    tokens[0] = 1;
    builder.add(tokens, 9, true);
  }
  const Prompts tree = builder.build(nullptr);
  const std::vector<ExpertPlan> plans = some_plans(config);
  CalibrationOptions options;
  options.details = true;
  for (const Ops* ops : {&cpu_ops(), &simt_ops()}) {
    CAPTURE(ops->name);
    const Weights whole(model.raw, *ops);
    const auto scores = PopulationForward(whole, 0).score(plans, tree);
    const ExpertStatistics statistics = calibrate(whole, 0, tree, options);
    const auto score = [&](const Weights& weights, size_t budget) {
      const auto made = PopulationForward(weights, budget).score(plans, tree);
      for (size_t plan = 0; plan < plans.size(); ++plan) {
        CHECK(std::memcmp(made[plan].data(), scores[plan].data(), scores[plan].size() * sizeof(TokenScore)) ==
              0);
      }
    };
    const auto measure = [&](const Weights& weights, size_t budget) {
      check_same(calibrate(weights, budget, tree, options), statistics);
    };
    const auto open = [&](size_t budget) {
      return std::make_unique<Weights>(model.raw, *ops, plan_weights(config, *ops, budget));
    };
    // What opens the model does not score the tree; what the refusal asks for does, and a byte less does not.
    const size_t opens = asked_by([&] { open(1); });
    const std::function<void(const Weights&, size_t)> works[] = {score, measure};
    for (const auto& work : works) {
      const size_t enough = asked_by([&] { work(*open(opens), opens); });
      REQUIRE(enough > opens);
      CHECK(asked_by([&] { work(*open(enough - 1), enough - 1); }) == enough);
      const auto weights = open(enough);
      CHECK(weights->plan().streamed_layers() < 6);
      work(*weights, enough);
      CHECK(weights->plan().streamed_layers() == 6);
      CHECK(weights->streamed_copies() > 0);
      work(*weights, enough);  // no more to give up, nor to do
      // With room for some layers some stay.
      const size_t layer = Weights::layer_bytes(config, *ops, true);
      const auto others = open(enough + 2 * layer);
      work(*others, enough + 2 * layer);
      CHECK(others->plan().streamed_layers() <= 4);
    }
  }
}
