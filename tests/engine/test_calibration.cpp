// Calibration: sums against the double-precision definitions, subset errors against brute force, nothing
// depends on the memory limit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/calibration.h"
#include "kernels/common/subsets.h"
#include "tests/engine/reference_model.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

Prompts calibration_prompts(const ModelConfig& config) {
  PromptBuilder builder;
  for (uint32_t i = 0; i < 15; ++i) builder.add(random_tokens(config, 5 + i, 200 + i), 1);
  return builder.build(nullptr);
}

}  // namespace

TEST_CASE("calibration: counts add up and do not depend on memory or threads") {
  for (Family family : {Family::kMixtral, Family::kQwen2Moe, Family::kGptOss}) {
    const ModelConfig config = tiny_config(family);
    const SyntheticModel model(config, 31);
    const Weights weights(model.raw, cpu_ops());
    const Prompts prompts = calibration_prompts(config);
    CalibrationOptions options;
    options.subset_kept = {2, 3};
    options.subset_batch = 16;
    options.subset_tokens = 90;
    const ExpertStatistics first = calibrate(weights, 0, prompts, options);
    CHECK(first.tokens == prompts.rows());
    CHECK(first.layers.size() == static_cast<size_t>(config.sparse_layers()));
    for (const LayerStatistics& layer : first.layers) {
      double count = 0, gate = 0, probability = 0;
      for (size_t e = 0; e < layer[ExpertSum::kCount].size(); ++e) {
        count += layer[ExpertSum::kCount][e];
        gate += layer[ExpertSum::kGate][e];
        probability += layer[ExpertSum::kProbability][e];
        CHECK(layer[ExpertSum::kSquaredNorm][e] * layer[ExpertSum::kCount][e] >=
              layer[ExpertSum::kNorm][e] * layer[ExpertSum::kNorm][e] * (1 - 1e-9));  // Cauchy-Schwarz
        CHECK(layer[ExpertSum::kMaxActivation][e] <=
              std::sqrt(layer[ExpertSum::kSquaredNorm][e]) * (1 + 1e-6));
      }
      const double rows = static_cast<double>(prompts.rows());
      CHECK(count == rows * static_cast<double>(config.top_k));
      CHECK(probability == doctest::Approx(rows).epsilon(1e-5));  // f32 softmax rows sum to 1 within E eps
      if (config.norm_topk_prob) CHECK(gate == doctest::Approx(rows).epsilon(1e-5));
      CHECK(layer.subset_errors[0].subsets.size() ==
            static_cast<size_t>(binomial(static_cast<int32_t>(config.num_experts), 2)));
    }
    Device threads;
    threads.threads = 3;
    const size_t least = Weights::packed_bytes(config, cpu_ops()) + 150000;
    for (const ExpertStatistics& again :
         {calibrate(Weights(model.raw, {cpu_ops(), threads}), 0, prompts, options),
          calibrate(weights, least, prompts, options)}) {
      for (size_t l = 0; l < first.layers.size(); ++l) {
        CHECK(again.layers[l][ExpertSum::kGateNorm] == first.layers[l][ExpertSum::kGateNorm]);
        CHECK(again.layers[l][ExpertSum::kProbabilityNorm] == first.layers[l][ExpertSum::kProbabilityNorm]);
        CHECK(again.layers[l][ExpertSum::kGateSquaredNorm] == first.layers[l][ExpertSum::kGateSquaredNorm]);
        CHECK(again.layers[l].subset_errors[1].error == first.layers[l].subset_errors[1].error);
      }
    }
  }
}

TEST_CASE("calibration: subset errors of the first layer equal the distance of block outputs") {
  ModelConfig config = tiny_config(Family::kMixtral);
  config.num_layers = 1;
  config.sparse = {1};
  const SyntheticModel model(config, 33);
  const Weights weights(model.raw, cpu_ops());
  PromptBuilder builder;
  for (uint32_t i = 0; i < 6; ++i) builder.add(random_tokens(config, 1, 300 + i), 1);
  const Prompts prompts = builder.build(nullptr);
  CalibrationOptions options;
  options.subset_kept = {3};
  options.subset_batch = 1 << 20;
  const ExpertStatistics statistics = calibrate(weights, 0, prompts, options);
  const SubsetErrors& errors = statistics.layers[0].subset_errors[0];
  REQUIRE(errors.subsets.size() == 10);
  // With one layer, and the head replaced by the final norm's input being linear in the block output only
  // before the norm, compare block outputs through the reference's parts.
  double all_squares = 0;
  for (size_t s = 0; s < errors.subsets.size(); ++s) {
    double squares = 0;
    for (int64_t row = 0; row < prompts.rows(); ++row) {
      const RawLayer& layer = model.raw.layers[0];
      Vec h;
      for (int64_t i = 0; i < config.hidden_size; ++i) {
        h.push_back(element(model.raw.embedding.data, config.dtype,
                            prompts.tokens[static_cast<size_t>(row)] * config.hidden_size + i));
      }
      // One token attends to itself alone: attention adds o(v).
      Vec v = multiply(layer.v, norm(h, layer.input_norm, config.rms_norm_eps)), repeated;
      for (int64_t head = 0; head < config.num_heads; ++head) {
        const int64_t source = head / (config.num_heads / config.num_kv_heads) * config.head_dim;
        repeated.insert(repeated.end(), v.begin() + source, v.begin() + source + config.head_dim);
      }
      const Vec added = multiply(layer.o, repeated);
      for (size_t i = 0; i < h.size(); ++i) h[i] += added[i];
      const Vec x = norm(h, layer.post_norm, config.rms_norm_eps);
      const Vec logits = multiply(layer.router, x);
      const auto output = [&](const std::vector<int32_t>& experts) {
        std::vector<std::pair<double, int32_t>> order;
        for (int32_t e : experts) order.emplace_back(-logits[static_cast<size_t>(e)], e);
        std::sort(order.begin(), order.end());
        double sum = 0;
        for (int i = 0; i < 2; ++i) sum += std::exp(-order[static_cast<size_t>(i)].first);
        Vec z(h.size(), 0.0);
        for (int i = 0; i < 2; ++i) {
          const RawFfn& raw = layer.experts[static_cast<size_t>(order[static_cast<size_t>(i)].second)];
          const Vec y = ReferenceFfn{plain(raw.gate), plain(raw.up), plain(raw.down)}(x);
          for (size_t j = 0; j < z.size(); ++j)
            z[j] += std::exp(-order[static_cast<size_t>(i)].first) / sum * y[j];
        }
        return z;
      };
      const Vec full = output({0, 1, 2, 3, 4}), cut = output(errors.subsets[s]);
      for (size_t j = 0; j < full.size(); ++j) squares += (full[j] - cut[j]) * (full[j] - cut[j]);
      for (size_t j = 0; s == 0 && j < full.size(); ++j) all_squares += full[j] * full[j];
    }
    // |Z| of the only batch; the same bound as below.
    CHECK(errors.norm == doctest::Approx(std::sqrt(all_squares)).epsilon(1e-5));
    // The inner products are of f32 outputs: relative error about 1e-6 of the outputs' size, absolute where
    // the subset changes nothing.
    CHECK(errors.error[s] == doctest::Approx(std::sqrt(squares)).epsilon(1e-4));
  }
}

TEST_CASE("calibration: progress is told after every mixture layer and ends at all tokens") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 31);
  const Weights weights(model.raw, cpu_ops());
  const Prompts prompts = calibration_prompts(config);
  std::vector<int64_t> told;
  CalibrationOptions options;
  options.progress = [&](int64_t tokens) { told.push_back(tokens); };
  calibrate(weights, 0, prompts, options);
  CHECK(told.size() >= static_cast<size_t>(config.sparse_layers()));
  CHECK(std::is_sorted(told.begin(), told.end()));
  CHECK(told.back() == prompts.rows());
}
