// Precision bf16 of the CPU: whole models against transformers' own bf16 runs, and bit for bit against itself
// on every instruction set and under every way of cutting the work.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/forward.h"
#include "kernels/cpu/cpu_target.h"
#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "loaders/models/checkpoint.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

const std::string kGolden = std::string(EEP_SOURCE_DIR) + "/tests/golden/";
const Ops& bf16_ops() { return cpu_ops(Precision::kBf16); }

Device cpu(int threads) {
  Device device;
  device.threads = threads;
  return device;
}

ExpertPlan whole_plan(const ModelConfig& config) {
  return identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                       static_cast<int32_t>(config.top_k));
}

// How far logits are from transformers' f32 run: the largest and the mean absolute difference; and whether a
// token was given to another expert than in our own f32 run, which moves its logits by as much as experts
// differ.
struct Errors {
  double largest = 0, mean = 0;
  bool rerouted = false;
};

std::vector<std::vector<float>> chosen_experts(const Taps& taps) {
  std::vector<std::vector<float>> chosen;
  for (const Tap& tap : taps.list()) {
    if (tap.name.ends_with("router.expert")) chosen.push_back(tap.values);
  }
  return chosen;
}

Errors errors_of(PopulationForward& forward, PopulationForward& exact, const ModelConfig& config,
                 const Json& entry) {
  const auto ids = parse_json(read_file(kGolden + entry.at("ids").get<std::string>()), "ids")
                       .get<std::vector<std::vector<int32_t>>>();
  const SafetensorsFile file(kGolden + entry.at("expected").get<std::string>());
  Errors errors;
  size_t values = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const SafetensorsEntry* expected = file.find("logits." + std::to_string(i));
    REQUIRE(expected != nullptr);
    Taps taps{Backend(bf16_ops())}, exact_taps{Backend(cpu_ops())};
    const std::vector<float> got = forward.logits(whole_plan(config), ids[i], &taps);
    exact.logits(whole_plan(config), ids[i], &exact_taps);
    errors.rerouted = errors.rerouted || chosen_experts(taps) != chosen_experts(exact_taps);
    REQUIRE(got.size() * sizeof(float) == expected->bytes);
    for (size_t at = 0; at < got.size(); ++at) {
      float truth = 0;
      std::memcpy(&truth, file.data(*expected) + at * sizeof(float), sizeof truth);
      const double error = std::fabs(static_cast<double>(got[at]) - static_cast<double>(truth));
      errors.largest = std::max(errors.largest, error);
      errors.mean += error;
    }
    values += got.size();
  }
  errors.mean /= static_cast<double>(values);
  return errors;
}

std::vector<ExpertPlan> some_plans(const ModelConfig& config) {
  std::vector<ExpertPlan> plans{whole_plan(config)};
  for (const bool dense : {false, true}) {
    plans.push_back(random_plan(config, 3, 2, RouterSpace::kLogits, dense, 7));
    plans.push_back(random_plan(config, 2, 2, RouterSpace::kProbabilities, dense, 8));
  }
  return plans;
}

Prompts some_prompts(const ModelConfig& config) {
  PromptBuilder builder;
  for (uint32_t i = 0; i < 9; ++i) {
    std::vector<int32_t> tokens = random_tokens(config, 5 + 3 * (i % 3), 7);
    for (const int32_t token : random_tokens(config, 1 + i, 60 + i)) tokens.push_back(token);
    builder.add(tokens, static_cast<int32_t>(tokens.size()) - 1, i % 2 == 0);
  }
  return builder.build(nullptr);
}

bool same_bits(const std::vector<TokenScore>& a, const std::vector<TokenScore>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(TokenScore)) == 0;
}

}  // namespace

TEST_CASE("precision bf16: no further from the f32 truth than transformers' own bf16 run") {
  const Json manifest = parse_json(read_file(kGolden + "manifest.json"), "manifest.json");
  int checkpoints = 0, undisturbed = 0;
  for (const Json& entry : manifest) {
    if (entry.at("dtype") != "bf16" || !entry.contains("hf16_error")) continue;
    CAPTURE(entry.at("name").get<std::string>());
    const RawModel raw = load_checkpoint(kGolden + entry.at("dir").get<std::string>());
    const Weights weights(raw, bf16_ops()), f32_weights(raw, cpu_ops());
    PopulationForward forward(weights, 0), exact(f32_weights, 0);
    const Errors errors = errors_of(forward, exact, raw.config, entry);
    const Json& theirs = entry.at("hf16_error");
    if (!errors.rerouted) {
      CHECK(errors.largest <= 1.1 * theirs.at("max").get<double>());
      ++undisturbed;
    }
    CHECK(errors.mean <= 1.1 * theirs.at("mean").get<double>());
    CHECK(errors.mean > 0);
    ++checkpoints;
  }
  CHECK(checkpoints >= 4);
  CHECK(undisturbed >= 2);
}

TEST_CASE("precision bf16: a checkpoint of another dtype is rounded, but for its routers") {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    CAPTURE(dtype_name(dtype));
    ModelConfig config = tiny_config(Family::kQwen2Moe);
    config.dtype = dtype;
    const SyntheticModel model(config, 4);
    const Weights weights(model.raw, bf16_ops()), exact(model.raw, cpu_ops());
    CHECK(weights.layer(0).q.dtype == DType::kBF16);
    CHECK(weights.layer(0).experts[0].down.dtype == DType::kBF16);
    CHECK(weights.vocabulary().dtype == DType::kBF16);
    CHECK(weights.layer(0).router.dtype == dtype);
    CHECK(std::memcmp(weights.layer(0).router.data, exact.layer(0).router.data,
                      exact.layer(0).router.bytes()) == 0);
    // Both precisions compute the same function: each product's relative error is within 2^-8 (both sides
    // rounded), and the dozen of products on a path through three layers meet in quadrature.
    PopulationForward rounded(weights, 0), full(exact, 0);
    const std::vector<int32_t> tokens = random_tokens(config, 12, 5);
    const std::vector<float> a = rounded.logits(whole_plan(config), tokens),
                             b = full.logits(whole_plan(config), tokens);
    double difference = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
      size += std::pow(static_cast<double>(b[i]), 2);
    }
    CHECK(std::sqrt(difference) <= 12 * 0x1p-8 * std::sqrt(size));
    CHECK(difference > 0);
  }
}

TEST_CASE("precision bf16: the same bits on every instruction set, thread count and memory limit") {
  for (const Family family : kFamilies) {
    CAPTURE(family_name(family));
    ModelConfig config = tiny_config(family);
    config.dtype = DType::kBF16;
    const SyntheticModel model(config, 8);
    const Prompts prompts = some_prompts(config);
    const std::vector<ExpertPlan> plans = some_plans(config);
    const Weights weights(model.raw, bf16_ops());
    std::vector<std::vector<TokenScore>> expected;
    for (const std::string& target : cpu_targets()) {
      CAPTURE(target);
      set_cpu_target(target);
      for (const int threads : {1, 2}) {
        const Weights of_threads(model.raw, {bf16_ops(), cpu(threads)});
        PopulationForward forward(of_threads, 0);
        const auto scores = forward.score(plans, prompts);
        if (expected.empty()) expected = scores;
        for (size_t i = 0; i < plans.size(); ++i) CHECK(same_bits(scores[i], expected[i]));
      }
    }
    set_cpu_target("auto");
    const size_t least = Weights::packed_bytes(config, bf16_ops()) + 200000;
    for (size_t i = 0; i < plans.size(); ++i) {  // alone, and with little memory
      PopulationForward limited(weights, least);
      CHECK(same_bits(limited.score(std::span(&plans[i], 1), prompts)[0], expected[i]));
    }
  }
}

TEST_CASE("precision bf16: greedy decoding takes the arg-max that scoring sees") {
  ModelConfig config = tiny_config(Family::kMixtral);
  config.dtype = DType::kBF16;
  const SyntheticModel model(config, 6);
  const Weights weights(model.raw, bf16_ops());
  PopulationForward forward(weights, 0);
  const std::vector<ExpertPlan> plans = some_plans(config);
  const std::vector<int32_t> prompt = random_tokens(config, 6, 3);
  GenerateOptions options;
  options.max_new = 9;
  options.ignore_eos = true;
  const std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size(), {prompt});
  const auto made = forward.generate(plans, prompts, options, nullptr);
  for (size_t plan = 0; plan < plans.size(); ++plan) {
    std::vector<int32_t> tokens = prompt;
    tokens.insert(tokens.end(), made[plan][0].begin(), made[plan][0].end());
    PromptBuilder builder;
    builder.add(tokens, static_cast<int32_t>(prompt.size()));
    const auto scores = forward.score(std::span(&plans[plan], 1), builder.build(nullptr))[0];
    REQUIRE(scores.size() == made[plan][0].size());
    for (size_t i = 0; i < scores.size(); ++i) CHECK(scores[i].argmax == made[plan][0][i]);
  }
}
