// One-shot criteria against tables worked out by hand.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "es/criteria.h"
#include "kernels/common/error.h"
#include "kernels/common/subsets.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::check_rate;

namespace {

// Four experts; expert 3 was never routed to. All numbers are exact in binary.
LayerStatistics layer_of(int32_t number) {
  LayerStatistics layer;
  layer.layer = number;
  layer[ExpertSum::kCount] = {8, 2, 4, 0};
  layer[ExpertSum::kGate] = {2, 1.5, 3, 0};
  layer[ExpertSum::kSelectedProbability] = {1, 1.25, 1.125, 0};
  layer[ExpertSum::kProbability] = {1.5, 1.25, 1.75, 2};
  layer[ExpertSum::kNorm] = {16, 8, 2, 0};
  layer[ExpertSum::kSquaredNorm] = {64, 32, 1, 0};
  layer[ExpertSum::kGateNorm] = {4, 3, 8, 0};
  layer[ExpertSum::kProbabilityNorm] = {1, 0.75, 0.5, 0};
  layer[ExpertSum::kGateSquaredNorm] = {2, 4, 4, 0};
  layer[ExpertSum::kMaxActivation] = {1, 7, 2, 0};
  layer.subset_errors = {{2, true, {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}}, {4, 2, 8, 2, 9, 7}}};
  return layer;
}

ExpertStatistics statistics_of(std::vector<LayerStatistics> layers) {
  ExpertStatistics statistics;
  statistics.experts = static_cast<int32_t>(layers[0][ExpertSum::kCount].size());
  statistics.top_k = 1;
  statistics.tokens = 14;
  statistics.layers = std::move(layers);
  return statistics;
}

Criterion criterion_of(std::string_view name) {
  return {.row = &find_criterion(name), .seed = 0, .draw = 0, .guard = {}};
}

using Experts = std::vector<int32_t>;

}  // namespace

TEST_CASE("scores and choices of every criterion, one layer") {
  const ExpertStatistics statistics = statistics_of({layer_of(0)});
  struct Row {
    std::string_view name;
    std::vector<double> scores;
    Experts one, two;
  };
  const std::vector<Row> rows = {
      {"frequency", {8, 2, 4, 0}, {0}, {0, 2}},
      {"soft_activation", {2, 1.5, 3, 0}, {2}, {0, 2}},
      {"soft_activation_selected", {1, 1.25, 1.125, 0}, {1}, {1, 2}},
      {"soft_activation_all", {1.5, 1.25, 1.75, 2}, {3}, {2, 3}},
      {"ean", {16, 8, 2, 0}, {0}, {0, 1}},
      {"wean", {4, 3, 8, 0}, {2}, {0, 2}},
      {"man", {2, 4, 0.5, 0}, {1}, {0, 1}},
      {"msan", {8, 16, 0.25, 0}, {1}, {0, 1}},
      {"reap", {0.5, 1.5, 2, 0}, {2}, {1, 2}},
      {"reap_probability", {0.125, 0.375, 0.125, 0}, {1}, {0, 1}},  // tie: the lowest index
      {"reap_l2", {0.25, 2, 1, 0}, {1}, {1, 2}},
      {"max_activation", {1, 7, 2, 0}, {1}, {1, 2}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CHECK(find_criterion(row.name).scores(statistics.layers[0]) == row.scores);
    CHECK(select_experts(statistics, criterion_of(row.name), 1, {0}, 0) == row.one);
    CHECK(select_experts(statistics, criterion_of(row.name), 2, {0}, 0) == row.two);
    CHECK(select_experts(statistics, criterion_of(row.name), 4, {0}, 0) == Experts{0, 1, 2, 3});
  }
}

TEST_CASE("a group adds the scores of its layers after dividing each by its sum") {
  LayerStatistics first = layer_of(0);
  LayerStatistics second = layer_of(1);
  first[ExpertSum::kCount] = {100, 300, 500, 100};  // .1 .3 .5 .1
  second[ExpertSum::kCount] = {8, 4, 1, 3};         // .5 .25 .0625 .1875, sum .6 .55 .5625 .2875
  const ExpertStatistics statistics = statistics_of({first, second});
  const Criterion frequency = criterion_of("frequency");
  CHECK(select_experts(statistics, frequency, 1, {0, 1}, 0) == Experts{0});
  CHECK(select_experts(statistics, frequency, 2, {0, 1}, 0) == Experts{0, 2});
  CHECK(select_experts(statistics, frequency, 1, {0}, 0) == Experts{2});  // raw counts would give 2 for both
  // A layer without any token says nothing.
  second[ExpertSum::kCount] = {0, 0, 0, 0};
  CHECK(select_experts(statistics_of({first, second}), frequency, 2, {0, 1}, 0) == Experts{1, 2});
}

TEST_CASE("ties keep the lowest index") {
  LayerStatistics layer = layer_of(0);
  layer[ExpertSum::kCount] = {5, 5, 5, 5};
  CHECK(select_experts(statistics_of({layer}), criterion_of("frequency"), 2, {0}, 0) == Experts{0, 1});
}

TEST_CASE("naee: the subset of least error; in a group, of normalised errors") {
  const Criterion naee = criterion_of("naee");
  LayerStatistics first = layer_of(0);
  CHECK(select_experts(statistics_of({first}), naee, 2, {0}, 0) == Experts{0, 2});  // tie with {1, 2}
  // Sums 32 and 1600: the second layer's raw errors would decide alone.
  LayerStatistics second = layer_of(1);
  second.subset_errors[0].error = {100, 300, 200, 200, 400, 400};
  // {0,1}: 4/32 + 1/16 = 6/32, {0,2}: 2/32 + 3/16 = 8/32, {1,2}: 2/32 + 2/16 = 6/32: tie, the first.
  CHECK(select_experts(statistics_of({first, second}), naee, 2, {0, 1}, 0) == Experts{0, 1});
  second.subset_errors[0].error = {120, 300, 200, 180, 400, 400};
  CHECK(select_experts(statistics_of({first, second}), naee, 2, {0, 1}, 0) == Experts{1, 2});
  // Sampled subsets: only those that all layers have.
  second.subset_errors[0] = {2, false, {{2, 3}, {0, 3}}, {5, 1}};
  CHECK(select_experts(statistics_of({first, second}), naee, 2, {0, 1}, 0) == Experts{0, 3});
  CHECK_THROWS_AS(select_experts(statistics_of({first}), naee, 3, {0}, 0), Error);
  CHECK(select_experts(statistics_of({first}), naee, 4, {0}, 0) == Experts{0, 1, 2, 3});
}

TEST_CASE("the guard keeps experts of outstanding activation in the first layers") {
  std::vector<LayerStatistics> layers;
  for (int32_t i = 0; i < 4; ++i) layers.push_back(layer_of(i));
  for (LayerStatistics& layer : layers) layer[ExpertSum::kMaxActivation] = {1, 1, 1, 1};
  layers[1][ExpertSum::kMaxActivation][3] =
      1000;  // the 99.5th percentile of 16 numbers lies below the largest
  layers[3][ExpertSum::kMaxActivation][3] = 1000;
  const ExpertStatistics statistics = statistics_of(layers);
  Criterion guarded = criterion_of("frequency");
  CHECK(select_experts(statistics, guarded, 2, {1}, 0) == Experts{0, 2});
  guarded.guard.enabled = true;
  // With two of 16 at 1000 the percentile is 1000, and nothing is strictly above.
  CHECK(select_experts(statistics, guarded, 2, {1}, 0) == Experts{0, 2});
  guarded.guard.percentile = 50.0;  // then the tenth of the largest, 100, is the threshold
  CHECK(select_experts(statistics, guarded, 2, {1}, 0) == Experts{0, 3});
  CHECK(select_experts(statistics, guarded, 2, {0}, 0) == Experts{0, 2});
  CHECK(select_experts(statistics, guarded, 2, {3}, 0) ==
        Experts{0, 2});  // the last quarter is not looked after
  guarded.guard.first_layers = 1.0;
  CHECK(select_experts(statistics, guarded, 2, {3}, 0) == Experts{0, 3});
  CHECK(select_experts(statistics, guarded, 1, {0, 1}, 0) == Experts{3});
}

TEST_CASE("random: uniform, one draw a group, addressed") {
  const ExpertStatistics statistics = statistics_of({layer_of(0), layer_of(1)});
  std::map<int32_t, int64_t> kept;
  int64_t equal = 0;
  for (uint32_t draw = 0; draw < 6000; ++draw) {
    const Criterion random{.row = &find_criterion("random"), .seed = 3, .draw = draw, .guard = {}};
    const Experts first = select_experts(statistics, random, 2, {0}, 0);
    for (const int32_t expert : first) ++kept[expert];
    equal += first == select_experts(statistics, random, 2, {1}, 1);
    CHECK(first == select_experts(statistics, random, 2, {0}, 0));
  }
  for (int32_t expert = 0; expert < 4; ++expert) check_rate(kept[expert], 6000, 0.5);
  check_rate(equal, 6000, 1.0 / 6.0);
}

TEST_CASE("plans") {
  const ExpertStatistics statistics = statistics_of({layer_of(1), layer_of(4), layer_of(5)});
  const ExpertPlan plan =
      select_plan(statistics, criterion_of("reap"), {2, 2}, {{1, 4}, {5}}, 1, RouterSpace::kProbabilities);
  CHECK(plan.top_k == 1);
  CHECK(plan.router_space == RouterSpace::kProbabilities);
  REQUIRE(plan.groups.size() == 2);
  CHECK(plan.groups[0] == one_hot_group({1, 4}, {1, 2}, 4));
  CHECK(plan.groups[1] == one_hot_group({5}, {1, 2}, 4));
}

TEST_CASE("what cannot be chosen is an error") {
  const ExpertStatistics statistics = statistics_of({layer_of(0)});
  const Criterion frequency = criterion_of("frequency");
  CHECK_THROWS_AS(select_experts(statistics, frequency, 0, {0}, 0), Error);
  CHECK_THROWS_AS(select_experts(statistics, frequency, 5, {0}, 0), Error);
  CHECK_THROWS_AS(select_experts(statistics, frequency, 2, {1}, 0), Error);
  ExpertStatistics lacking = statistics;
  lacking.layers[0][ExpertSum::kGate].clear();
  CHECK_THROWS_AS(select_experts(lacking, criterion_of("soft_activation"), 2, {0}, 0), Error);
}

TEST_CASE("names go there and back") {
  CHECK(criterion_names().size() == 22);
  for (const std::string_view name : criterion_names()) {
    CHECK(find_criterion(name).name == name);
  }
  CHECK_THROWS_AS(find_criterion("frequencies"), Error);
}

TEST_CASE("binomials and subsets") {
  CHECK(binomial(8, 4) == 70);
  CHECK(binomial(24, 12) == 2704156);
  CHECK(binomial(5, 0) == 1);
  CHECK(binomial(5, 6) == 0);
  CHECK(binomial(60, 30) == 118264581564861424);
  CHECK(binomial(66, 33) == 7219428434016265740);
  CHECK(binomial(67, 33) == std::numeric_limits<int64_t>::max());
  CHECK(binomial(512, 256) == std::numeric_limits<int64_t>::max());
  CHECK(all_subsets(4, 2) == std::vector<Experts>{{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}});
  CHECK(all_subsets(3, 3) == std::vector<Experts>{{0, 1, 2}});
  CHECK(all_subsets(8, 4).size() == 70);
}

TEST_CASE("sampled subsets: the given ones first, no one twice, all of them if there are few") {
  CHECK(sample_subsets(8, 4, 70, 1) == all_subsets(8, 4));
  const std::vector<Experts> given = {{5, 1, 0}, {0, 1, 5}, {2, 3, 4}};
  const std::vector<Experts> sampled = sample_subsets(24, 3, 500, 1, given);
  CHECK(sampled.size() == 500);
  CHECK(sampled[0] == Experts{0, 1, 5});
  CHECK(sampled[1] == Experts{2, 3, 4});
  CHECK(std::set<Experts>(sampled.begin(), sampled.end()).size() == 500);
  CHECK(sampled == sample_subsets(24, 3, 500, 1, given));
  CHECK(sampled != sample_subsets(24, 3, 500, 2, given));
  CHECK(sample_subsets(8, 4, 69, 1).size() == 69);  // all but one
}
