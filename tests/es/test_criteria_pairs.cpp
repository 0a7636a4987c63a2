// Criteria that look at whole outputs, weights or pairs of experts, against small references: brute force, or
// numbers made by hand.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "es/criteria.h"
#include "es/criteria_pairs.h"
#include "kernels/common/error.h"
#include "kernels/common/subsets.h"

using namespace eep;

namespace {

using Experts = std::vector<int32_t>;

ExpertStatistics statistics_of(LayerStatistics layer) {
  ExpertStatistics statistics;
  statistics.experts = static_cast<int32_t>(layer[ExpertSum::kCount].size());
  statistics.top_k = 2;
  statistics.tokens = 10;
  statistics.layers.push_back(std::move(layer));
  return statistics;
}

LayerStatistics layer_of(const std::vector<double>& counts) {
  LayerStatistics layer;
  for (size_t sum = 0; sum < kRoutedSums; ++sum) layer.sums[sum].assign(counts.size(), 1.0);
  layer[ExpertSum::kCount] = counts;
  return layer;
}

// Inner products of points in space.
std::vector<double> gram_of(const std::vector<std::vector<double>>& points) {
  std::vector<double> gram;
  for (const auto& a : points) {
    for (const auto& b : points) {
      double sum = 0;
      for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
      gram.push_back(sum);
    }
  }
  return gram;
}

Criterion criterion_of(std::string_view name) { return {.row = &find_criterion(name), .guard = {}}; }

double random_number(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<double>(state >> 40) / 8388608.0 - 1;
}

double removed_norm(const std::vector<double>& matrix, size_t experts, const Experts& kept) {
  double sum = 0;
  for (size_t i = 0; i < experts; ++i) {
    for (size_t j = 0; j < experts; ++j) {
      const bool both = std::count(kept.begin(), kept.end(), static_cast<int32_t>(i)) == 0 &&
                        std::count(kept.begin(), kept.end(), static_cast<int32_t>(j)) == 0;
      sum += both ? matrix[i * experts + j] : 0;
    }
  }
  return sum;
}

std::vector<float> row_of(const std::vector<float>& matrix, size_t row, size_t experts) {
  return {matrix.begin() + static_cast<int64_t>(row * experts),
          matrix.begin() + static_cast<int64_t>((row + 1) * experts)};
}

}  // namespace

TEST_CASE("pairs: scores of whole outputs and of weights") {
  LayerStatistics layer = layer_of({2, 4, 1, 0});
  layer[ExpertSum::kChangeNorm] = {3, 1, 2, 0};
  layer[ExpertSum::kCredit] = {1, 2, 3, 0};
  // Expert 0: outputs (1, 0) and (3, 0), so mean (2, 0), deviations (1, 0). Expert 1: four times (1, 1).
  layer[ExpertSum::kSquaredNorm] = {10, 8, 7, 0};
  layer[ExpertSum::kOutputSumNorm] = {4, 4 * std::sqrt(2.0), std::sqrt(7.0), 0};
  // Weights (1, 1, 1, 1), (2, 0, 0, 0), (3, 3, 0, 0), none.
  layer[ExpertSum::kWeightMagnitude] = {4, 2, 6, 0};
  layer[ExpertSum::kWeightSquares] = {4, 4, 18, 0};
  const auto scores = [&](std::string_view name) { return find_criterion(name).scores(layer); };
  CHECK(scores("easyep") == std::vector<double>{3, 1, 2, 0});
  CHECK(scores("shape") == std::vector<double>{1, 2, 3, 0});
  const std::vector<double> mone = scores("mone");
  CHECK(mone[0] == doctest::Approx(2.0));
  CHECK(mone[1] == doctest::Approx(0.0).epsilon(1e-7));
  CHECK(mone[2] == doctest::Approx(0.0).epsilon(1e-7));
  CHECK(mone[3] == 0);
  // AIMER drops the largest mean size over root mean square: 1, 1/2, 1/sqrt(2) of four weights each.
  const std::vector<double> aimer = scores("aimer");
  CHECK(aimer[0] == doctest::Approx(1.0 / 2));
  CHECK(aimer[1] == doctest::Approx(1.0));
  CHECK(aimer[2] == doctest::Approx(std::sqrt(2.0) / 2));
  CHECK(select_experts(statistics_of(layer), criterion_of("aimer"), 2, {0}, 0) == Experts{1, 2});
  for (std::string_view name : {"easyep", "shape", "mone", "aimer", "hope"}) {
    CHECK_THROWS_AS(select_experts(statistics_of(layer_of({1, 1, 1})), criterion_of(name), 2, {0}, 0), Error);
  }
}

TEST_CASE("hope: what is removed together is smallest, and single norms would choose otherwise") {
  // Outputs 0 and 1 cancel each other; 2 is smaller than either alone.
  LayerStatistics layer = layer_of({1, 1, 1, 1});
  layer[ExpertMatrix::kInteraction] = gram_of({{1, 0}, {-1, 0.1}, {0, 0.8}, {0, 2}});
  CHECK(select_experts(statistics_of(layer), criterion_of("hope"), 2, {0}, 0) == Experts{2, 3});
  CHECK(select_experts(statistics_of(layer), criterion_of("hope"), 3, {0}, 0) == Experts{0, 1, 3});
  // Exact where every set is tried; within 2 % of it where sets are searched, and never worse than one that
  // drops the smallest outputs.
  uint64_t state = 5;
  for (int trial = 0; trial < 3; ++trial) {
    std::vector<std::vector<double>> points(18);
    for (auto& point : points) {
      for (int i = 0; i < 5; ++i) point.push_back(random_number(state));
    }
    LayerStatistics random = layer_of(std::vector<double>(18, 1.0));
    random[ExpertMatrix::kInteraction] = gram_of(points);
    const auto& matrix = random[ExpertMatrix::kInteraction];
    const ExpertStatistics statistics = statistics_of(random);
    for (const int32_t kept : {3, 9, 15}) {
      const Experts found = select_experts(statistics, criterion_of("hope"), kept, {0}, 0);
      CHECK(found.size() == static_cast<size_t>(kept));
      double best = std::numeric_limits<double>::infinity();
      for (const Experts& other : all_subsets(18, kept))
        best = std::min(best, removed_norm(matrix, 18, other));
      const double own = removed_norm(matrix, 18, found);
      double sizes = 0;
      for (size_t i = 0; i < 18; ++i) sizes += matrix[i * 18 + i];
      if (binomial(18, kept) <= 20000)
        CHECK(own == doctest::Approx(best));
      else
        CHECK(own <= best + 0.02 * sizes);
    }
  }
}

TEST_CASE("msmoe: the most used stay, the others join the nearest gate row, weighted by use") {
  LayerStatistics layer = layer_of({10, 30, 40, 20});
  layer[ExpertMatrix::kLogitGram] = gram_of({{2, 0.1}, {0, 3}, {1, 0}, {0.1, 1}});
  const ExpertStatistics statistics = statistics_of(layer);
  Criterion criterion = criterion_of("msmoe");
  const auto plan = [&](RouterSpace space) {
    return select_plan(statistics, criterion, 2, {{0}}, 2, space).groups[0];
  };
  PlanGroup group = plan(RouterSpace::kLogits);
  CHECK(group.kept == 2);
  CHECK(row_of(group.expert_merging, 0, 4) == std::vector<float>{0, 0.6f, 0, 0.4f});
  CHECK(row_of(group.expert_merging, 1, 4) == std::vector<float>{0.2f, 0, 0.8f, 0});
  CHECK(row_of(group.router_mapping, 0, 4) == std::vector<float>{0, 1, 0, 0});
  CHECK(row_of(group.router_mapping, 1, 4) == std::vector<float>{0, 0, 1, 0});
  criterion.merged_router = MergedRouter::kAverage;
  CHECK(plan(RouterSpace::kLogits).router_mapping == group.expert_merging);
  criterion.merged_router = MergedRouter::kSum;
  CHECK(plan(RouterSpace::kProbabilities).router_mapping == std::vector<float>{0, 1, 0, 1, 1, 0, 1, 0});
  criterion.merged_router = MergedRouter::kRepresentative;
  CHECK(select_plan(statistics, criterion, 4, {{0}}, 2, RouterSpace::kLogits).groups[0] ==
        one_hot_group({0}, {0, 1, 2, 3}, 4));
  CHECK_THROWS_AS(select_plan(statistics, criterion, 2, {{0, 1}}, 2, RouterSpace::kLogits), Error);
}

TEST_CASE("hcsmoe: average linkage, not the nearest pair of members") {
  // On a line: 0, 1, 2.1, 5. First 0 and 1 join; then 2.1 is 1.6 away from them on average, 2.9 from 5.
  LayerStatistics layer = layer_of({1, 2, 4, 8});
  layer[ExpertMatrix::kOutputGram] = gram_of({{0, 1}, {1, 1}, {2.1, 1}, {5, 1}});
  const ExpertStatistics statistics = statistics_of(layer);
  const auto merging = [&](int32_t kept) {
    return select_plan(statistics, criterion_of("hcsmoe"), kept, {{0}}, 2, RouterSpace::kLogits).groups[0];
  };
  const float third = static_cast<float>(1.0 / 3), two_thirds = static_cast<float>(2.0 / 3);
  CHECK(merging(3).expert_merging == std::vector<float>{third, two_thirds, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1});
  CHECK(row_of(merging(2).expert_merging, 0, 4) == std::vector<float>{static_cast<float>(1.0 / 7),
                                                                      static_cast<float>(2.0 / 7),
                                                                      static_cast<float>(4.0 / 7), 0});
  CHECK(row_of(merging(2).router_mapping, 0, 4) == std::vector<float>{0, 0, 1, 0});  // the most used member's
  // Single linkage would chain 2.1 to 3.9 first; the mean distance of 0, 1 to 2.1 is what counts.
  layer[ExpertMatrix::kOutputGram] = gram_of({{0, 1}, {1, 1}, {2.4, 1}, {4.1, 1}});
  const PlanGroup chained =
      select_plan(statistics_of(layer), criterion_of("hcsmoe"), 2, {{0}}, 2, RouterSpace::kLogits).groups[0];
  CHECK(chained.expert_merging[2] == 0);  // 2.4 joins 4.1 at 1.7, not 0 and 1 at 1.9
}

TEST_CASE("ream: salient experts in turn take what is most like them, weighted by saliency") {
  LayerStatistics layer = layer_of({1, 1, 1, 1});
  layer[ExpertSum::kProbabilityNorm] = {4, 1, 0, 3};  // the 0 counts as the least above it
  layer[ExpertMatrix::kGatedOutputGram] = gram_of({{1, 0}, {1, 0.2}, {-1, 0.2}, {-1, 0}});
  layer[ExpertMatrix::kLogitGram] = gram_of({{1, 0}, {1, 0}, {0, 1}, {0, 1}});
  const ExpertStatistics statistics = statistics_of(layer);
  PlanGroup group =
      select_plan(statistics, criterion_of("ream"), 3, {{0}}, 2, RouterSpace::kLogits).groups[0];
  // Centroids 0, 3, 1; only expert 2 is left, and the most salient centroid takes it.
  CHECK(row_of(group.expert_merging, 0, 4) == std::vector<float>{0.8f, 0, 0.2f, 0});
  CHECK(row_of(group.expert_merging, 1, 4) == std::vector<float>{0, 1, 0, 0});
  CHECK(row_of(group.router_mapping, 0, 4) == std::vector<float>{1, 0, 0, 0});
  group = select_plan(statistics, criterion_of("ream"), 2, {{0}}, 2, RouterSpace::kLogits).groups[0];
  // Groups hold up to sixteen, so the first centroid takes both.
  CHECK(row_of(group.expert_merging, 1, 4) == std::vector<float>{0, 0, 0, 1});
  CHECK(group.expert_merging[1] > 0);
  CHECK(group.expert_merging[2] > 0);
}

TEST_CASE("ream: groups hold sixteen, so twenty experts make two") {
  LayerStatistics layer = layer_of(std::vector<double>(20, 1.0));
  std::vector<std::vector<double>> points;
  for (int e = 0; e < 20; ++e) {
    layer[ExpertSum::kProbabilityNorm][static_cast<size_t>(e)] = 20 - e;
    points.push_back({std::cos(e * 0.1), std::sin(e * 0.1)});
  }
  layer[ExpertMatrix::kGatedOutputGram] = layer[ExpertMatrix::kLogitGram] = gram_of(points);
  const PlanGroup group =
      select_plan(statistics_of(layer), criterion_of("ream"), 2, {{0}}, 2, RouterSpace::kLogits).groups[0];
  int first = 0;
  for (size_t e = 0; e < 20; ++e) first += group.expert_merging[e] != 0;
  CHECK(first == 16);  // 0 and the fifteen nearest, 2 to 16
  CHECK(group.expert_merging[16] > 0);
  CHECK(group.expert_merging[17] == 0);
}
