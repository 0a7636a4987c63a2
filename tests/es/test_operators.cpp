// The official operators: their rates against the published constants, with binomial bounds.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "es/breed.h"
#include "es/operators.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::check_rate;
using eep::test::kept_experts;
using eep::test::make_space;

namespace {

constexpr uint32_t kTrials = 8000;

std::vector<GroupFlags> flags_of(int32_t groups, bool em, bool rm) {
  return std::vector<GroupFlags>(static_cast<size_t>(groups), GroupFlags{em, rm});
}

// An archive of one-hot genomes with the given fitness values.
Archive archive_of(const GenomeSpace& space, const std::vector<double>& fitness, FitnessKind kind) {
  Archive archive(kind);
  for (size_t i = 0; i < fitness.size(); ++i) {
    ArchiveEntry entry;
    entry.genome = random_one_hot(space, {5, static_cast<uint32_t>(i), 0}, 0);
    entry.hash = canonical_hash(entry.genome, space.experts);
    entry.result = {fitness[i], 0.0, 100};
    archive.append(std::move(entry));
  }
  return archive;
}

}  // namespace

TEST_CASE("official constants are the defaults") {
  const OperatorParameters p;
  CHECK(p.initial == 31);
  CHECK(p.flag_probability == 0.25);
  CHECK(p.row_probability == 0.15);
  CHECK(p.element_probability == 0.25);
  CHECK(p.sigma == 0.065);
  CHECK(p.normalise_probability == 0.1);
  CHECK(p.crossover_probability == 0.3);
  CHECK(p.crossover_first_parent == 0.6);
  CHECK(p.mutation_window_points == 3.0);
  CHECK(p.crossover_window_points == 1.0);
  CHECK(p.crossover_window_minimum == 6);
  CHECK(p.parent_rule == ParentRule::kAuto);
  const SearchConfig config;
  CHECK(config.seed == 11450);
  CHECK(config.prune.evaluations == 101);
  CHECK(config.merge.evaluations == 301);
}

TEST_CASE("flags: a quarter of the matrices, at least one") {
  int64_t em = 0, rm = 0, both = 0, none = 0, em_forced = 0;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const auto free = draw_flags(2, 0.25, false, {1, i, 0});
    em += free[0].w_em;
    rm += free[1].w_rm;
    both += free[0].w_em && free[0].w_rm;
    none += free == flags_of(2, false, false);
    const auto forced = draw_flags(2, 0.25, true, {1, i, 0});
    CHECK(forced != flags_of(2, false, false));
    em_forced += forced[0].w_em;
    if (free != flags_of(2, false, false)) CHECK(forced == free);
  }
  check_rate(em, kTrials, 0.25);
  check_rate(rm, kTrials, 0.25);
  check_rate(both, kTrials, 0.0625);
  const double p_none = std::pow(0.75, 4);
  check_rate(none, kTrials, p_none);
  check_rate(em_forced, kTrials, 0.25 / (1.0 - p_none));
}

TEST_CASE("random genomes: ascending, one-hot, every expert equally often") {
  const GenomeSpace space = make_space(8, {4, 2});
  std::map<int32_t, int64_t> kept;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const Genome genome = random_one_hot(space, {2, i, 0}, 0);
    CHECK(is_one_hot(genome, 8));
    CHECK(genome == canonical(genome, 8));
    for (const int32_t expert : kept_experts(genome.groups[0], 8)) ++kept[expert];
  }
  REQUIRE(kept.size() == 8);
  for (const auto& [expert, hits] : kept) check_rate(hits, kTrials, 0.5);
  CHECK(random_one_hot(space, {2, 0, 0}, 0) != random_one_hot(space, {2, 0, 0}, 1));
}

TEST_CASE("discrete mutation: row-change rate, coupling, no expert twice") {
  for (const int32_t keep : {2, 4, 6}) {
    CAPTURE(keep);
    const GenomeSpace space = make_space(8, {keep, keep});
    // A row draws with .15 and draws its own expert with 1/(E - K + 1).
    const double p_change = 0.15 * (1.0 - 1.0 / (8 - keep + 1));
    std::vector<int64_t> changed(static_cast<size_t>(keep), 0);
    int64_t unchanged = 0;
    for (uint32_t i = 0; i < kTrials; ++i) {
      const Child child{3, i, 0};
      const Genome parent = random_one_hot(space, child, 0);
      const auto flags = std::vector<GroupFlags>{{true, false}, {false, true}};
      const Genome genome = discrete_mutation(parent, 8, flags, 0.15, child);
      CHECK(is_one_hot(genome, 8));
      CHECK(genome.groups[1] == parent.groups[1]);  // W_RM's flag is ignored
      const auto before = kept_experts(parent.groups[0], 8);
      const auto after = kept_experts(genome.groups[0], 8);
      for (size_t row = 0; row < before.size(); ++row) changed[row] += before[row] != after[row];
      unchanged += before == after;
    }
    for (const int64_t hits : changed) check_rate(hits, kTrials, p_change);
    check_rate(unchanged, kTrials, std::pow(1.0 - p_change, keep));
  }
}

TEST_CASE("discrete mutation: the new expert is uniform over the free ones and the old one") {
  const GenomeSpace space = make_space(8, {4});
  const Genome parent = one_hot_genome(space, {{0, 2, 4, 6}});
  std::map<int32_t, int64_t> first;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const Genome genome = discrete_mutation(parent, 8, flags_of(1, true, false), 1.0, {4, i, 0});
    ++first[kept_experts(genome.groups[0], 8)[0]];
  }
  CHECK(first.size() == 5);
  for (const int32_t expert : {0, 1, 3, 5, 7}) check_rate(first[expert], kTrials, 0.2);
}

TEST_CASE("gaussian mutation: a quarter of a flagged matrix, deviation 0.065") {
  const GenomeSpace space = make_space(8, {4, 4});
  int64_t moved = 0;
  double sum = 0.0, squares = 0.0;
  for (uint32_t i = 0; i < 1000; ++i) {
    const Child child{5, i, 0};
    const Genome parent = random_one_hot(space, child, 0);
    const Genome genome = gaussian_mutation(parent, 8, std::vector<GroupFlags>{{true, false}, {false, true}},
                                            0.25, 0.065, child);
    CHECK(genome.groups[0].w_rm == parent.groups[0].w_rm);
    CHECK(genome.groups[1].w_em == parent.groups[1].w_em);
    for (size_t j = 0; j < 32; ++j) {
      const double steps[] = {
          static_cast<double>(genome.groups[0].w_em[j]) - static_cast<double>(parent.groups[0].w_em[j]),
          static_cast<double>(genome.groups[1].w_rm[j]) - static_cast<double>(parent.groups[1].w_rm[j])};
      for (const double step : steps) {
        moved += step != 0.0;
        sum += step;
        squares += step * step;
      }
    }
  }
  check_rate(moved, 64000, 0.25);
  const double n = static_cast<double>(moved);
  CHECK(std::abs(sum / n) <= 5.0 * 0.065 / std::sqrt(n));
  // A genome is rounded to float: 2^-24 relative, far below the bound.
  CHECK(std::abs(squares / n / (0.065 * 0.065) - 1.0) <= 5.0 * std::sqrt(2.0 / n));
}

TEST_CASE("crossover: rows of flagged matrices, unflagged ones whole, W_EM and W_RM independent") {
  const GenomeSpace space = make_space(8, {4});
  const Genome first = one_hot_genome(space, {{0, 1, 2, 3}});
  const Genome second = one_hot_genome(space, {{4, 5, 6, 7}});
  int64_t em_rows = 0, rm_whole = 0, agree = 0, whole_em = 0;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const Genome child = crossover(first, second, 8, flags_of(1, true, false), 0.6, {6, i, 0});
    const auto em = kept_experts(child.groups[0], 8);
    const auto rm = one_hot_rows(child.groups[0].w_rm, 4, 8);
    for (int32_t row = 0; row < 4; ++row) {
      const int32_t expert = em[static_cast<size_t>(row)];
      CHECK((expert == row || expert == row + 4));
      em_rows += expert == row;
    }
    CHECK((child.groups[0].w_rm == first.groups[0].w_rm || child.groups[0].w_rm == second.groups[0].w_rm));
    rm_whole += rm[0] == 0;
    agree += (rm[0] == 0) == (em[0] == 0);
    const Genome plain = crossover(first, second, 8, flags_of(1, false, false), 0.6, {6, i, 0});
    CHECK((plain.groups[0].w_em == first.groups[0].w_em || plain.groups[0].w_em == second.groups[0].w_em));
    whole_em += plain.groups[0].w_em == first.groups[0].w_em;
  }
  check_rate(em_rows, 4 * kTrials, 0.6);
  check_rate(rm_whole, kTrials, 0.6);
  check_rate(whole_em, kTrials, 0.6);
  check_rate(agree, kTrials, 0.6 * 0.6 + 0.4 * 0.4);
}

TEST_CASE("row normalisation: W_EM alone, nothing to do for one-hot rows, tiny sums are left") {
  const GenomeSpace space = make_space(4, {2});
  const Genome one_hot = one_hot_genome(space, {{1, 3}});
  CHECK(normalised_rows(one_hot, 4) == one_hot);
  Genome genome = one_hot;
  genome.groups[0].w_em = {0.5f, 1.0f, 0.25f, 0.25f, 1.0f, -1.0f, 0.0f, 0.0f};
  genome.groups[0].w_rm = {0.5f, 1.0f, 0.25f, 0.25f, 1.0f, 1.0f, 0.0f, 0.0f};
  const Genome result = normalised_rows(genome, 4);
  CHECK(result.groups[0].w_em == std::vector<float>{0.25f, 0.5f, 0.125f, 0.125f, 1.0f, -1.0f, 0.0f, 0.0f});
  CHECK(result.groups[0].w_rm == genome.groups[0].w_rm);
}

TEST_CASE("parent windows") {
  OperatorParameters p;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  using Values = std::vector<double>;
  // Within 3 points and the first past them; exactly 3 points are within.
  CHECK(mutation_window(Values{0.91, 0.90, 0.88, 0.87, 0.5}, p) == 4);
  CHECK(mutation_window(Values{0.29, 0.26, 0.25}, p) == 3);
  CHECK(mutation_window(Values{0.91, 0.2, 0.1}, p) == 2);
  CHECK(mutation_window(Values{0.5, 0.5, 0.5}, p) == 3);
  CHECK(mutation_window(Values{0.5}, p) == 1);
  CHECK(mutation_window(Values{0.5, nan, nan}, p) == 2);
  CHECK(mutation_window(Values{nan, nan, nan}, p) == 3);
  // Within 1 point, at least 6, at most all.
  CHECK(crossover_window(Values{0.9, 0.9, 0.89, 0.5}, p) == 4);
  CHECK(crossover_window(Values(9, 0.5), p) == 9);
  CHECK(crossover_window(Values{0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3}, p) == 6);
  CHECK(crossover_window(Values{0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.89, 0.3}, p) == 7);
  // Ranked ones are cut, or go by rank alone.
  p.mutation_rank = 3;
  p.crossover_rank = 2;
  p.parent_rule = ParentRule::kRankedWindow;
  CHECK(mutation_window(Values(9, 0.5), p) == 3);
  CHECK(mutation_window(Values{0.9, 0.1, 0.1, 0.1}, p) == 2);
  CHECK(crossover_window(Values(9, 0.5), p) == 2);
  p.parent_rule = ParentRule::kRanking;
  CHECK(mutation_window(Values{-1.0, -9.0, -20.0, -30.0}, p) == 3);
  CHECK(crossover_window(Values{-1.0, -9.0, -20.0, -30.0}, p) == 2);
}

TEST_CASE("ranking: fitness first, ties in an order drawn for each child") {
  const GenomeSpace space = make_space(8, {4, 4});
  const Archive archive = archive_of(space, {0.1, 0.5, 0.5, 0.9, 0.5, 0.1}, FitnessKind::kMetric);
  const Ranking ranking(archive);
  const std::vector<double> sorted(ranking.fitness().begin(), ranking.fitness().end());
  CHECK(sorted == std::vector<double>{0.9, 0.5, 0.5, 0.5, 0.1, 0.1});
  std::map<int64_t, int64_t> second, third;
  int64_t pairs = 0;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const Child child{7, i, 0};
    CHECK(ranking.at(0, child) == 3);
    ++second[ranking.at(1, child)];
    const auto [a, b] = ranking.at(2, 3, child);
    CHECK(a != b);
    CHECK(std::set<int64_t>{1, 2, 4, a, b}.size() == 3);
    ++third[b];
    pairs += a == 1 && b == 4;
    const auto [c, d] = ranking.at(5, 0, child);
    CHECK((c == 0 || c == 5));
    CHECK(d == 3);
  }
  for (const int64_t evaluation : {1, 2, 4}) {
    check_rate(second[evaluation], kTrials, 1.0 / 3.0);
    check_rate(third[evaluation], kTrials, 1.0 / 3.0);
  }
  check_rate(pairs, kTrials, 1.0 / 6.0);
}

TEST_CASE("parents: uniform over the windows; crossover while merging, with 0.3, of two different members") {
  const GenomeSpace space = make_space(8, {4, 4});
  // 8 within 1 point, 2 more within 3, one just past, then the rest.
  std::vector<double> fitness(8, 0.80);
  fitness.insert(fitness.end(), {0.78, 0.77, 0.70, 0.60, 0.50});
  const Archive archive = archive_of(space, fitness, FitnessKind::kMetric);
  const OperatorParameters p;
  const Ranking ranking(archive);
  std::map<int64_t, int64_t> mutated, crossed;
  int64_t crossovers = 0;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const Parents parents = select_parents(ranking, Phase::kMerge, p, {8, i, 0});
    if (parents.second >= 0) {
      ++crossovers;
      CHECK(parents.first != parents.second);
      ++crossed[parents.first];
      ++crossed[parents.second];
    }
    const Parents parent = select_parents(ranking, Phase::kPrune, p, {8, i, 0});
    CHECK(parent.second < 0);
    ++mutated[parent.first];
  }
  check_rate(crossovers, kTrials, 0.3);
  CHECK(crossed.size() == 8);
  for (int64_t i = 0; i < 8; ++i) check_rate(crossed[i], 2 * crossovers, 1.0 / 8.0);
  CHECK(mutated.size() == 11);
  for (int64_t i = 0; i < 11; ++i) check_rate(mutated[i], kTrials, 1.0 / 11.0);
}

TEST_CASE("children: a tenth is normalised, W_RM never; crossover children get noise too") {
  const GenomeSpace space = make_space(8, {4});
  Genome dense = one_hot_genome(space, {{0, 1, 2, 3}});
  for (float& value : dense.groups[0].w_em) value += 0.125f;  // rows sum to 2
  dense.groups[0].w_rm = dense.groups[0].w_em;
  const OperatorParameters p;
  int64_t normalised = 0, noisy = 0;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const Genome child = vary(dense, nullptr, 8, Phase::kMerge, flags_of(1, false, false), p, {9, i, 0});
    CHECK(child.groups[0].w_rm == dense.groups[0].w_rm);
    normalised += child.groups[0].w_em != dense.groups[0].w_em;
    const Genome crossed = vary(dense, &dense, 8, Phase::kMerge, flags_of(1, false, true), p, {9, i, 0});
    noisy += crossed.groups[0].w_rm != dense.groups[0].w_rm;
  }
  check_rate(normalised, kTrials, 0.1);
  check_rate(noisy, kTrials, 1.0 - std::pow(0.75, 32));
}

TEST_CASE("parameters out of range are refused") {
  const auto refused = [](auto change) {
    OperatorParameters p;
    ParameterCheck check("search.merge");
    CHECK_NOTHROW(visit(check, p));
    change(p);
    CHECK_THROWS_AS(visit(check, p), Error);
  };
  refused([](OperatorParameters& p) { p.flag_probability = 0.0; });
  refused([](OperatorParameters& p) { p.row_probability = 1.5; });
  refused([](OperatorParameters& p) { p.element_probability = -0.1; });
  refused([](OperatorParameters& p) { p.sigma = std::numeric_limits<double>::quiet_NaN(); });
  refused([](OperatorParameters& p) { p.sigma = std::numeric_limits<double>::infinity(); });
  refused([](OperatorParameters& p) { p.points_per_unit = 0.0; });
  refused([](OperatorParameters& p) { p.initial = 0; });
  refused([](OperatorParameters& p) { p.mutation_rank = 0; });
  refused([](OperatorParameters& p) { p.crossover_window_points = -1.0; });
}
