// Whole models against Hugging Face transformers: logits, greedy generation and plans of every kind, read
// from the golden checkpoints of tests/golden (make_golden.py).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/forward.h"
#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/plan_io.h"

using namespace eep;

namespace {

const std::string kGolden = std::string(EEP_SOURCE_DIR) + "/tests/golden/";

using TokenLists = std::vector<std::vector<int32_t>>;

TokenLists token_lists(const std::string& file) {
  return parse_json(read_file(kGolden + file), file).get<TokenLists>();
}

// [tokens, vocab] of logits.<index>
std::vector<float> expected_logits(const SafetensorsFile& file, size_t index) {
  const SafetensorsEntry* entry = file.find("logits." + std::to_string(index));
  REQUIRE(entry != nullptr);
  REQUIRE(entry->dtype == "F32");
  std::vector<float> values(entry->bytes / sizeof(float));
  std::memcpy(values.data(), file.data(*entry), entry->bytes);
  return values;
}

// The largest difference relative to the largest logit, and the mean absolute difference.
struct Difference {
  double relative = 0, largest = 0, mean = 0;
};
Difference compare(const std::vector<float>& got, const std::vector<float>& expected) {
  REQUIRE(got.size() == expected.size());
  Difference difference;
  double scale = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    difference.largest = std::max(difference.largest, error);
    difference.mean += error / static_cast<double>(got.size());
    scale = std::max(scale, std::fabs(static_cast<double>(expected[i])));
  }
  difference.relative = difference.largest / scale;
  return difference;
}

// f32 arithmetic over weights in any dtype against transformers' f32 run over the same weights: the promise
// is 2e-5.
constexpr double kRelative = 2e-5;

struct GoldenModel {
  explicit GoldenModel(const Json& entry)
      : raw(load_checkpoint(kGolden + entry.at("dir").get<std::string>())),
        weights(raw, cpu_ops()),
        forward(weights, 0) {}
  RawModel raw;
  Weights weights;
  PopulationForward forward;
};

void check_generation(GoldenModel& model, const ExpertPlan& plan, const Json& cases) {
  for (const Json& item : cases) {
    const auto output = item.at("output").get<std::vector<int32_t>>();
    const std::vector<TokenLists> prompts{{item.at("prompt").get<std::vector<int32_t>>()}};
    GenerateOptions options;
    options.max_new = static_cast<int32_t>(output.size());
    options.ignore_eos = true;
    CHECK(model.forward.generate(std::span(&plan, 1), prompts, options, nullptr)[0][0] == output);
  }
}

const Json& manifest() {
  static const Json value = parse_json(read_file(kGolden + "manifest.json"), "manifest.json");
  return value;
}

}  // namespace

TEST_CASE("golden: logits and generation of every checkpoint equal transformers") {
  REQUIRE(manifest().size() >= 10);
  for (const Json& entry : manifest()) {
    CAPTURE(entry.at("name").get<std::string>());
    GoldenModel model(entry);
    const ModelConfig& config = model.raw.config;
    const ExpertPlan plan = identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                                          static_cast<int32_t>(config.top_k));
    const TokenLists ids = token_lists(entry.at("ids").get<std::string>());
    const SafetensorsFile expected(kGolden + entry.at("expected").get<std::string>());
    for (size_t i = 0; i < ids.size(); ++i) {
      CAPTURE(i);
      const Difference difference = compare(model.forward.logits(plan, ids[i]), expected_logits(expected, i));
      CHECK(difference.relative < kRelative);
      if (entry.contains(
              "hf16_error")) {  // activations are f32 here, so far inside of transformers' own 16-bit run
        CHECK(difference.largest <= 1.1 * entry.at("hf16_error").at("max").get<double>());
        CHECK(difference.mean <= 1.1 * entry.at("hf16_error").at("mean").get<double>());
      }
    }
    check_generation(model, plan, entry.at("generation"));
  }
}

TEST_CASE("golden: plans of every kind equal the same plan applied in PyTorch") {
  size_t plans = 0;
  for (const Json& entry : manifest()) {
    if (entry.at("plans").empty()) continue;
    CAPTURE(entry.at("name").get<std::string>());
    GoldenModel model(entry);
    // Merged 16-bit weights are rounded once from an f32 sum; where two orders of summation straddle a tie
    // they part by one unit in the last place.
    const double bound = model.raw.config.dtype == DType::kF32 ? kRelative : 10 * kRelative;
    for (const Json& item : entry.at("plans")) {
      CAPTURE(item.at("file").get<std::string>());
      const ExpertPlan plan = read_plan(kGolden + item.at("file").get<std::string>());
      check_plan(plan, model.raw.config.sparse, static_cast<int32_t>(model.raw.config.num_experts), "plan");
      const TokenLists ids = token_lists(item.at("ids").get<std::string>());
      const SafetensorsFile expected(kGolden + item.at("expected").get<std::string>());
      for (size_t i = 0; i < ids.size(); ++i) {
        CAPTURE(i);
        CHECK(compare(model.forward.logits(plan, ids[i]), expected_logits(expected, i)).relative < bound);
      }
      if (item.contains("generation")) check_generation(model, plan, item.at("generation"));
      ++plans;
    }
  }
  CHECK(plans >= 40);
}
