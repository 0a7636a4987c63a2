// Texts put together: sums, the max-min choice against all choices, coverage, counts by layer, and where
// nothing speaks for a choice.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "es/allocation.h"
#include "es/blend.h"
#include "es/no_signal.h"
#include "kernels/common/error.h"
#include "kernels/common/subsets.h"

using namespace eep;

namespace {

using Experts = std::vector<int32_t>;

LayerStatistics layer_of(int32_t index, const std::vector<double>& counts,
                         const std::vector<double>& gate_norm) {
  LayerStatistics layer;
  layer.layer = index;
  for (size_t sum = 0; sum < kRoutedSums; ++sum) layer.sums[sum].assign(counts.size(), 1.0);
  layer[ExpertSum::kCount] = counts;
  layer[ExpertSum::kGateNorm] = gate_norm;
  return layer;
}

Domain domain_of(const std::string& name, std::vector<LayerStatistics> layers, int64_t tokens,
                 double weight = 1) {
  Domain domain;
  domain.name = name;
  domain.weight = weight;
  domain.file.statistics.experts = static_cast<int32_t>(layers[0][ExpertSum::kCount].size());
  domain.file.statistics.top_k = 2;
  domain.file.statistics.tokens = tokens;
  domain.file.statistics.layers = std::move(layers);
  return domain;
}

Criterion criterion_of(std::string_view name) { return {.row = &find_criterion(name), .guard = {}}; }

double random_number(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<double>(state >> 40) / 16777216.0;
}

double least_coverage(std::span<const Domain> domains, const CriterionRow& row, const ExpertPlan& plan) {
  double least = 2;
  for (const Domain& domain : domains)
    least = std::min(least, coverage(domain.file.statistics, row, plan).score);
  return least;
}

}  // namespace

TEST_CASE("blend: sums add by weight, means are those of the texts together") {
  Domain a = domain_of("a.json", {layer_of(0, {4, 2, 0, 2}, {8, 1, 0, 3})}, 4, 2.0);
  Domain b = domain_of("b.json", {layer_of(0, {0, 2, 6, 0}, {0, 3, 3, 0})}, 4);
  a.file.statistics.layers[0][ExpertSum::kMaxActivation] = {1, 5, 0, 2};
  b.file.statistics.layers[0][ExpertSum::kMaxActivation] = {0, 3, 9, 0};
  a.file.statistics.layers[0][ExpertSum::kOutputSumNorm] = {1, 1, 1, 1};
  b.file.statistics.layers[0][ExpertSum::kOutputSumNorm] = {1, 1, 1, 1};
  a.file.statistics.layers[0].subset_errors = {{1, true, {{0}, {1}, {2}, {3}}, {1, 2, 3, 4}}};
  b.file.statistics.layers[0].subset_errors = {{1, false, {{3}, {1}}, {5, 6}}, {2, false, {{0, 1}}, {7}}};
  const Domain both[] = {a, b};
  const ExpertStatistics sum = blended(both);
  const LayerStatistics& layer = sum.layers[0];
  CHECK(sum.tokens == 12);
  CHECK(layer[ExpertSum::kCount] == std::vector<double>{8, 6, 6, 4});
  CHECK(layer[ExpertSum::kGateNorm] == std::vector<double>{16, 5, 3, 6});
  CHECK(layer[ExpertSum::kMaxActivation] == std::vector<double>{1, 5, 9, 2});
  CHECK(layer[ExpertSum::kOutputSumNorm].empty());  // norms of sums do not add
  CHECK(find_criterion("reap").scores(layer) == std::vector<double>{2, 5.0 / 6, 0.5, 1.5});
  REQUIRE(layer.subset_errors.size() == 1);
  CHECK(layer.subset_errors[0].subsets == std::vector<Experts>{{1}, {3}});
  CHECK(layer.subset_errors[0].error == std::vector<double>{10, 13});
  CHECK(select_experts(sum, criterion_of("reap"), 2, {0}, 0) == Experts{0, 3});
  CHECK_THROWS_AS(select_experts(sum, criterion_of("mone"), 2, {0}, 0), Error);
  // A text counts as if it had been read twice.
  Domain once = a;
  once.weight = 1;
  const Domain thrice[] = {once, once, b};
  CHECK(blended(thrice).layers[0][ExpertSum::kGateNorm] == layer[ExpertSum::kGateNorm]);
  const Domain alone[] = {a};
  CHECK(blended(alone).layers[0].sums == a.file.statistics.layers[0].sums);
}

TEST_CASE("blend: balanced weights are of whole texts") {
  std::vector<Domain> domains{domain_of("a", {layer_of(0, {30, 10}, {1, 1})}, 40, 1),
                              domain_of("b", {layer_of(0, {2, 8}, {1, 1})}, 10, 3)};
  balance(domains);
  const ExpertStatistics sum = blended(domains);
  // Of 50 tokens one part a (3/4, 1/4), three parts b (1/5, 4/5).
  CHECK(sum.layers[0][ExpertSum::kCount][0] == doctest::Approx(50 * (0.75 + 3 * 0.2)));
  CHECK(sum.layers[0][ExpertSum::kCount][1] == doctest::Approx(50 * (0.25 + 3 * 0.8)));
}

TEST_CASE("blend: files of different models are refused by name") {
  const Domain a = domain_of("a.json", {layer_of(0, {1, 1}, {1, 1})}, 4);
  const auto refused = [&](Domain other, const std::string& what) {
    other.name = "b.json";
    const Domain both[] = {a, other};
    try {
      check_same_model(both);
      FAIL_CHECK("not refused");
    } catch (const Error& error) {
      const std::string text = error.what();
      CHECK(error.code() == ExitCode::kData);
      CHECK(text.find("b.json: ") == 0);
      CHECK(text.find("a.json") != std::string::npos);
      CHECK(text.find(what) != std::string::npos);
    }
  };
  refused(domain_of("", {layer_of(0, {1, 1, 1}, {1, 1, 1})}, 4), "experts (expected 2, got 3)");
  refused(domain_of("", {layer_of(1, {1, 1}, {1, 1})}, 4), "layers (expected 0, got 1)");
  Domain other = a;
  other.file.statistics.top_k = 1;
  refused(other, "active experts");
  const Domain same[] = {a, a};
  CHECK_NOTHROW(check_same_model(same));
  Domain named = a, foreign = a;
  named.file.model = "xxh3:1";
  foreign.file.model = "xxh3:2";
  foreign.name = "b.json";
  const Domain hashes[] = {named, foreign}, unknown[] = {named, a};
  CHECK_THROWS_AS(check_same_model(hashes), Error);
  CHECK_NOTHROW(check_same_model(unknown));
}

TEST_CASE("coverage: shares of calls and of the score, and the worst layer") {
  const Domain domain =
      domain_of("a", {layer_of(2, {6, 2, 2, 0}, {1, 1, 2, 0}), layer_of(5, {1, 1, 1, 1}, {5, 0, 0, 0})}, 5);
  ExpertPlan plan;
  plan.groups = {one_hot_group({2}, {0, 2}, 4), one_hot_group({5}, {0}, 4)};
  const Coverage covered = coverage(domain.file.statistics, find_criterion("wean"), plan);
  CHECK(covered.calls == doctest::Approx((0.8 + 0.25) / 2));
  CHECK(covered.score == doctest::Approx((0.75 + 1) / 2));
  CHECK(covered.worst_layer == 5);
  CHECK(covered.worst_calls == doctest::Approx(0.25));
  plan.groups[1].expert_merging[3] = 0.25f;  // a member of a merged expert is covered
  CHECK(coverage(domain.file.statistics, find_criterion("wean"), plan).worst_calls == doctest::Approx(0.5));
  CHECK(coverage(domain.file.statistics, find_criterion("naee"), plan).score == 0);
}

TEST_CASE("maxmin: as good for the worst text as the best of all choices") {
  uint64_t state = 7;
  for (int trial = 0; trial < 40; ++trial) {
    std::vector<Domain> domains;
    const int count = 2 + trial % 2;
    for (int d = 0; d < count; ++d) {
      std::vector<LayerStatistics> layers;
      for (int32_t l = 0; l < 2; ++l) {
        std::vector<double> scores;
        for (int e = 0; e < 6; ++e) scores.push_back(std::pow(random_number(state), 3));
        layers.push_back(layer_of(l, std::vector<double>(6, 1.0), scores));
      }
      domains.push_back(domain_of("d", std::move(layers), 10));
    }
    const Criterion wean = criterion_of("wean");
    std::vector<double> weights;
    const ExpertPlan plan = maxmin_plan(domains, wean, 3, {{0}, {1}}, 2, RouterSpace::kLogits, &weights);
    CHECK(weights.size() == domains.size());
    double best = 0;
    for (const Experts& first : all_subsets(6, 3)) {
      for (const Experts& second : all_subsets(6, 3)) {
        ExpertPlan other;
        other.groups = {one_hot_group({0}, first, 6), one_hot_group({1}, second, 6)};
        best = std::max(best, least_coverage(domains, *wean.row, other));
      }
    }
    const double found = least_coverage(domains, *wean.row, plan);
    CHECK(found <= best + 1e-12);
    CHECK(found >= best - 0.02);  // single exchanges may stop below the best pair of exchanges
    const double plain = least_coverage(
        domains, *wean.row, select_plan(blended(domains), wean, 3, {{0}, {1}}, 2, RouterSpace::kLogits));
    CHECK(found >= plain);
  }
  const std::vector<Domain> one{domain_of("a", {layer_of(0, {1, 2, 3}, {1, 2, 3})}, 3)};
  std::vector<double> weights;
  CHECK(maxmin_plan(one, criterion_of("frequency"), 2, {{0}}, 2, RouterSpace::kLogits, &weights).groups[0] ==
        one_hot_group({0}, {1, 2}, 3));
  CHECK_THROWS_AS(maxmin_plan(one, criterion_of("naee"), 2, {{0}}, 2, RouterSpace::kLogits, &weights), Error);
  CHECK_THROWS_AS(maxmin_plan(one, criterion_of("wean"), 4, {{0}}, 2, RouterSpace::kLogits, &weights), Error);
}

TEST_CASE("allocation: each rule spends the budget, and where scores are alike it is uniform") {
  const ExpertStatistics statistics =
      domain_of("a",
                {layer_of(0, {90, 5, 3, 2}, {1, 1, 1, 1}), layer_of(1, {25, 25, 25, 25}, {1, 1, 1, 1}),
                 layer_of(3, {40, 30, 20, 10}, {1, 1, 1, 1})},
                100)
          .file.statistics;
  const auto counts = [&](size_t rule, std::string_view criterion, int32_t kept, int32_t least) {
    return allocate(allocations()[rule], statistics, find_criterion(criterion), kept, least);
  };
  CHECK(counts(0, "frequency", 2, 1) == Experts{2, 2, 2});
  // Shares above all: .90, .40, .30, .25 x 4 -> six places of which layer 1 has three.
  CHECK(counts(1, "frequency", 2, 1) == Experts{1, 3, 2});
  CHECK(counts(1, "frequency", 2, 2) == Experts{2, 2, 2});
  // Sums before a rank: 0; 0 .25 .5 .75; 0 .4 .7 .9; 0 .9 .95 .98. The lowest six: 0 0 0 .25 .4 .5.
  CHECK(counts(2, "frequency", 2, 1) == Experts{1, 3, 2});
  CHECK(counts(2, "wean", 2, 1) == Experts{2, 2, 2});
  CHECK(counts(2, "frequency", 4, 1) == Experts{4, 4, 4});
  CHECK_THROWS_AS(counts(2, "naee", 2, 1), Error);
  CHECK_THROWS_AS(counts(2, "frequency", 2, 3), Error);
  CHECK_THROWS_AS(counts(3, "naee", 2, 1), Error);
  ExpertStatistics measured = statistics;
  for (size_t i = 0; i < 3; ++i)
    measured.layers[i].subset_errors = {{2, true, {{0, 1}, {0, 2}}, {std::vector<double>{3, 1, 2}[i], 9}}};
  // Errors 3 : 1 : 2 of six experts.
  CHECK(allocate(allocations()[3], measured, find_criterion("naee"), 2, 1) == Experts{3, 1, 2});
}

TEST_CASE("no signal: experts without tokens and ties are named") {
  const Domain domain =
      domain_of("a", {layer_of(0, {5, 0, 3, 0}, {1, 0, 1, 0}), layer_of(4, {1, 2, 3, 4}, {4, 3, 2, 1})}, 5);
  const auto lines = [&](std::string_view name, int32_t kept) {
    const Criterion criterion = criterion_of(name);
    const ExpertPlan plan =
        select_plan(domain.file.statistics, criterion, kept, {{0}, {4}}, 2, RouterSpace::kLogits);
    return choices_without_signal(domain.file.statistics, criterion, plan);
  };
  const std::vector<std::string> three = lines("frequency", 3);
  REQUIRE(three.size() == 2);
  CHECK(three[0] == "layer 0: kept 1 and dropped 3 have the same score 0: the lower index decides");
  CHECK(three[1] == "layer 0: no token was routed to experts 1, 3");
  CHECK(lines("frequency", 2).size() ==
        1);  // what is dropped has no token, and nothing else would have stayed
  CHECK(lines("frequency", 4).empty());
  CHECK(lines("random", 2).empty());
  // Sets of experts: of the same error, or whose experts put out nothing.
  Domain sets = domain;
  for (LayerStatistics& layer : sets.file.statistics.layers) {
    layer[ExpertSum::kNorm] = {1, 1, 1, 1};
    layer.subset_errors = {{2, true, {{0, 1}, {0, 2}, {1, 2}}, {2, 1, 1}}};
  }
  const auto naee = [&] {
    const Criterion criterion = criterion_of("naee");
    const ExpertPlan plan =
        select_plan(sets.file.statistics, criterion, 2, {{0}, {4}}, 2, RouterSpace::kLogits);
    return choices_without_signal(sets.file.statistics, criterion, plan);
  };
  REQUIRE(naee().size() == 3);
  CHECK(naee()[0] == "layer 0: 2 sets of 2 experts have the same error 1: the first decides");
  sets.file.statistics.layers[1][ExpertSum::kNorm] = {0, 0, 0, 0};
  CHECK(naee()[1] == "layer 4: no expert put out anything: nothing speaks for any of them");
  Domain empty = domain;
  empty.file.statistics.tokens = 0;
  for (LayerStatistics& layer : empty.file.statistics.layers) layer[ExpertSum::kCount] = {0, 0, 0, 0};
  const Criterion frequency = criterion_of("frequency");
  CHECK(choices_without_signal(
            empty.file.statistics, frequency,
            select_plan(empty.file.statistics, frequency, 2, {{0}, {4}}, 2, RouterSpace::kLogits))[0] ==
        "the statistics hold no token: nothing speaks for any expert");
}
