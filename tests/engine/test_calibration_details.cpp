// Calibration's sums over whole outputs and pairs, against their definitions; and texts in parts.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/calibration.h"
#include "engine/calibration_details.h"
#include "engine/weight_sums.h"
#include "tests/engine/reference_model.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

float number(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(state >> 40) / 8388608.0f - 1.0f;
}

}  // namespace

TEST_CASE("calibration details: every sum is its definition, in whatever blocks rows come") {
  constexpr int64_t kRows = 13, kHidden = 19;
  constexpr int32_t kExperts = 5, kSlots = 2;
  uint64_t state = 3;
  std::vector<float> residual, logits, weight, out, dense;
  std::vector<int32_t> expert;
  for (int64_t i = 0; i < kRows * kHidden; ++i) residual.push_back(number(state));
  for (int64_t i = 0; i < kRows * kExperts; ++i) logits.push_back(3 * number(state));
  for (int64_t i = 0; i < kRows * kExperts * kHidden; ++i) dense.push_back(number(state));
  for (int64_t row = 0; row < kRows; ++row) {
    const int32_t first = static_cast<int32_t>(row % kExperts),
                  second = (first + 1 + static_cast<int32_t>(row % 2)) % kExperts;
    for (const int32_t e : {first, second}) {
      expert.push_back(e);
      weight.push_back(0.5f + 0.4f * number(state));
      for (int64_t i = 0; i < kHidden; ++i)
        out.push_back(dense[static_cast<size_t>((row * kExperts + e) * kHidden + i)]);
    }
  }
  LayerStatistics expected;
  expected[ExpertSum::kChangeNorm].assign(kExperts, 0);
  expected[ExpertSum::kCredit].assign(kExperts, 0);
  std::vector<std::vector<double>> sum(kExperts, std::vector<double>(kHidden)), mean = sum, gated = sum,
                                                                                alone = sum;
  std::vector<double> interaction(kExperts * kExperts), gram = interaction;
  for (int64_t row = 0; row < kRows; ++row) {
    std::vector<double> y(kHidden);
    double norm[2], share = 0, hh = 0, after = 0, along = 0, size = 0, exponents = 0;
    for (int s = 0; s < 2; ++s) {
      norm[s] = 0;
      for (int64_t i = 0; i < kHidden; ++i) {
        const double f = out[static_cast<size_t>((row * 2 + s) * kHidden + i)];
        norm[s] += f * f;
        y[static_cast<size_t>(i)] += static_cast<double>(weight[static_cast<size_t>(row * 2 + s)]) * f;
        sum[static_cast<size_t>(expert[static_cast<size_t>(row * 2 + s)])][static_cast<size_t>(i)] += f;
      }
      norm[s] = std::sqrt(norm[s]);
      share += static_cast<double>(weight[static_cast<size_t>(row * 2 + s)]) * norm[s];
    }
    for (int64_t i = 0; i < kHidden; ++i) {
      const double h = residual[static_cast<size_t>(row * kHidden + i)], z = h + y[static_cast<size_t>(i)];
      hh += h * h;
      after += z * z;
      along += h * z;
      size += y[static_cast<size_t>(i)] * y[static_cast<size_t>(i)];
    }
    for (int s = 0; s < 2; ++s) {
      const auto slot = static_cast<size_t>(row * 2 + s);
      const auto e = static_cast<size_t>(expert[slot]);
      const double part = static_cast<double>(weight[slot]) * norm[s];
      expected[ExpertSum::kChangeNorm][e] += (1 - along / std::sqrt(hh * after)) * part;
      expected[ExpertSum::kCredit][e] += std::sqrt(size) * part / share;
      for (int t = 0; t < 2; ++t) {
        const auto other = static_cast<size_t>(row * 2 + t);
        double inner = 0;
        for (size_t i = 0; i < kHidden; ++i)
          inner +=
              static_cast<double>(out[slot * kHidden + i]) * static_cast<double>(out[other * kHidden + i]);
        interaction[e * kExperts + static_cast<size_t>(expert[other])] +=
            static_cast<double>(weight[slot]) * static_cast<double>(weight[other]) * inner;
      }
    }
    for (int32_t e = 0; e < kExperts; ++e)
      exponents += std::exp(static_cast<double>(logits[static_cast<size_t>(row * kExperts + e)]));
    for (size_t e = 0; e < kExperts; ++e) {
      const double z = logits[static_cast<size_t>(row) * kExperts + e];
      for (size_t j = 0; j < kExperts; ++j)
        gram[e * kExperts + j] += z * static_cast<double>(logits[static_cast<size_t>(row) * kExperts + j]);
      for (size_t i = 0; i < kHidden; ++i) {
        const double f = dense[(static_cast<size_t>(row) * kExperts + e) * kHidden + i];
        mean[e][i] += f / kRows;
        gated[e][i] += std::exp(z) / exponents * f / kRows;
        alone[e][i] += 1 / (1 + std::exp(-z)) * f / kRows;
      }
    }
  }
  for (const auto& [block, sigmoids] : {std::pair{int64_t{4}, false}, {kRows, false}, {int64_t{4}, true}}) {
    CalibrationDetails details(1, kExperts, kHidden, sigmoids, true, block == 4 ? 3 : 1);
    const auto& weighted = sigmoids ? alone : gated;
    CHECK(details.bytes() ==
          sizeof(double) * (2 * kExperts + 2 * kExperts * kExperts + 3 * kExperts * kHidden));
    for (int64_t row = 0; row < kRows; row += block) {
      const int64_t rows = std::min(block, kRows - row);
      details.add(0, {rows, kSlots, residual.data() + row * kHidden, logits.data() + row * kExperts,
                      expert.data() + row * 2, weight.data() + row * 2, out.data() + row * 2 * kHidden});
      const std::vector<float> part(dense.begin() + row * kExperts * kHidden,
                                    dense.begin() + (row + rows) * kExperts * kHidden);
      details.add_every_expert(0, part, logits.data() + row * kExperts, rows);
    }
    LayerStatistics found;
    details.finish(0, found);
    for (size_t e = 0; e < kExperts; ++e) {
      double squares = 0;
      for (const double value : sum[e]) squares += value * value;
      CHECK(found[ExpertSum::kChangeNorm][e] == doctest::Approx(expected[ExpertSum::kChangeNorm][e]));
      CHECK(found[ExpertSum::kCredit][e] == doctest::Approx(expected[ExpertSum::kCredit][e]));
      CHECK(found[ExpertSum::kOutputSumNorm][e] == doctest::Approx(std::sqrt(squares)));
      for (size_t j = 0; j < kExperts; ++j) {
        double outputs = 0, both = 0;
        for (size_t i = 0; i < kHidden; ++i) outputs += mean[e][i] * mean[j][i];
        for (size_t i = 0; i < kHidden; ++i) both += weighted[e][i] * weighted[j][i];
        const size_t at = e * kExperts + j;
        CHECK(found[ExpertMatrix::kInteraction][at] == doctest::Approx(interaction[at]));
        CHECK(found[ExpertMatrix::kLogitGram][at] == doctest::Approx(gram[at]));
        CHECK(found[ExpertMatrix::kOutputGram][at] == doctest::Approx(outputs));
        CHECK(found[ExpertMatrix::kGatedOutputGram][at] == doctest::Approx(both));
      }
    }
  }
}

TEST_CASE("calibration details: of a model, in one pass or in parts, with any memory and threads") {
  const ModelConfig config = tiny_config(Family::kQwen2Moe);
  const SyntheticModel model(config, 31);
  std::vector<std::vector<int32_t>> sequences;
  for (uint32_t i = 0; i < 9; ++i)
    sequences.push_back(random_tokens(config, 7 + i, 200 + i / 2));  // prefixes recur
  CalibrationOptions options;
  options.details = options.every_expert = true;
  options.subset_kept = {2};
  options.subset_batch = 16;
  options.subset_tokens = 60;
  const auto in_parts = [&](size_t part, size_t memory, int threads) {
    Device device;
    device.threads = threads;
    size_t at = 0;
    const PromptSource next = [&](Prompts& prompts) {
      if (at == sequences.size()) return false;
      const size_t end = std::min(at + part, sequences.size());
      prompts = side_by_side(std::span(sequences).subspan(at, end - at));
      at = end;
      return true;
    };
    return calibrate(Weights(model.raw, {cpu_ops(), device}), memory, next, options);
  };
  const ExpertStatistics whole = in_parts(9, 0, 1);
  int64_t tokens = 0;
  for (const auto& sequence : sequences) tokens += static_cast<int64_t>(sequence.size());
  CHECK(whole.tokens == tokens);  // each counts, though prefixes recur
  for (const LayerStatistics& layer : whole.layers) {
    double interaction = 0;
    const auto experts = static_cast<size_t>(config.num_experts);
    for (size_t e = 0; e < experts; ++e) interaction += layer[ExpertMatrix::kInteraction][e * experts + e];
    CHECK(interaction > 0);
    for (size_t sum = 0; sum < kExpertSums; ++sum) {
      const bool of_weights = sum_rule(static_cast<ExpertSum>(sum)) == SumRule::kOfModel;
      CHECK(layer.sums[sum].size() == (of_weights ? 0 : experts));
    }
    for (const auto& matrix : layer.matrices) CHECK(matrix.size() == experts * experts);
  }
  for (const ExpertStatistics& again : {in_parts(1, 0, 1), in_parts(4, 0, 3),
                                        in_parts(3, Weights::packed_bytes(config, cpu_ops()) + 400000, 1)}) {
    for (size_t l = 0; l < whole.layers.size(); ++l) {
      CHECK(again.layers[l].sums == whole.layers[l].sums);
      CHECK(again.layers[l].matrices == whole.layers[l].matrices);
      CHECK(again.layers[l].subset_errors[0].error == whole.layers[l].subset_errors[0].error);
    }
  }
}

TEST_CASE("weight sums: sizes and squares of an expert's matrices") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 5);
  ExpertStatistics statistics;
  for (int32_t layer = 0; layer < static_cast<int32_t>(config.num_layers); ++layer) {
    statistics.layers.emplace_back();
    statistics.layers.back().layer = layer;
  }
  add_weight_sums(model.raw, 3, statistics);
  for (const LayerStatistics& layer : statistics.layers) {
    const std::vector<RawFfn>& experts = model.raw.layers[static_cast<size_t>(layer.layer)].experts;
    for (size_t e = 0; e < experts.size(); ++e) {
      double magnitude = 0, squares = 0;
      for (const RawMatrix* matrix : {&experts[e].gate, &experts[e].up, &experts[e].down}) {
        for (int64_t i = 0; i < matrix->n * matrix->k; ++i) {
          const double value = element(matrix->data, matrix->dtype, i);
          magnitude += std::fabs(value);
          squares += value * value;
        }
      }
      CHECK(layer[ExpertSum::kWeightMagnitude][e] == doctest::Approx(magnitude));
      CHECK(layer[ExpertSum::kWeightSquares][e] == doctest::Approx(squares));
    }
  }
}
