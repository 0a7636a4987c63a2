// Planted problems: the optimum is known, and no blind search of equal budget gets near it. Fitness is
// without noise but coarse, as an accuracy over items is.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "es/operators.h"
#include "es/random.h"
#include "es/search.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::kept_experts;
using eep::test::make_space;

namespace {

constexpr uint64_t kSeeds = 20;
constexpr int32_t kNeeded = 19;

SearchConfig config_of(const std::string& algorithm, FitnessKind kind, int32_t population, uint64_t seed) {
  SearchConfig config{.fitness = kind};
  config.seed = seed;
  config.population = population;
  test::set_algorithm(&config, algorithm);
  return config;
}

// ---- pruning: in each of 4 groups, half of the experts are needed

// Four items for every planted expert of 8, right when it is kept: steps of 6.25 points. A plateau hides the
// slope: below 12 of 16 the metric is 0. The tie-break stands for a log-likelihood: it has the slope always.
Evaluation prune_fitness(const Genome& genome, const Genome& planted, int32_t experts, FitnessKind kind,
                         bool plateau) {
  int32_t hits = 0, needed = 0;
  for (size_t group = 0; group < genome.groups.size(); ++group) {
    const std::vector<int32_t> wanted = kept_experts(planted.groups[group], experts);
    needed += static_cast<int32_t>(wanted.size());
    for (const int32_t expert : kept_experts(genome.groups[group], experts)) {
      hits += static_cast<int32_t>(std::count(wanted.begin(), wanted.end(), expert));
    }
  }
  const double share = static_cast<double>(hits) / needed;
  const double metric = plateau ? std::max(0.0, (hits - 11) / 5.0) : share;
  return {kind == FitnessKind::kLoglik ? share - 1.0 : metric, share - 1.0, 64};
}

GenomeSpace narrow_space() { return make_space(8, {4, 4, 4, 4}); }
GenomeSpace wide_space() { return make_space(16, {8, 8, 8, 8}); }

// Does the search find the planted genome?
bool finds(const GenomeSpace& space, const SearchConfig& config, const Genome& planted, bool plateau) {
  Search search(space, config);
  const SearchResult result = search.run([&](std::span<const Genome> genomes) {
    std::vector<Evaluation> results;
    for (const Genome& genome : genomes)
      results.push_back(prune_fitness(genome, planted, space.experts, config.fitness, plateau));
    return results;
  });
  return search.archive()[result.best].hash == canonical_hash(planted, space.experts);
}

// In how many of the seeds the search finds the planted genome.
int32_t prune_successes(const std::string& algorithm, FitnessKind kind, int32_t population,
                        int64_t evaluations, bool plateau, const GenomeSpace& space = narrow_space()) {
  int32_t found = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SearchConfig config = config_of(algorithm, kind, population, seed);
    config.prune.evaluations = evaluations;
    config.merge.evaluations = 0;
    found += finds(space, config, random_one_hot(space, {1000 + seed, 0, 0}, 0), plateau);
  }
  return found;
}

// The same where counts vary: 16 experts over 4 groups of 8, 1 to 7 in each; eight switches away from even
// counts.
int32_t count_successes(const std::string& algorithm, int64_t evaluations) {
  const GenomeSpace space = test::make_counts_space(8, 4, 16, 1, 7);
  int32_t found = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SearchConfig config = config_of(algorithm, FitnessKind::kMetric, 32, seed);
    config.prune.evaluations = evaluations;
    config.merge.evaluations = 0;
    KeptSets sets = kept_sets(random_one_hot(space, {1000 + seed, 0, 0}, 0), 8);
    for (uint32_t number = 0; number < 8; ++number) switch_level(space, &sets, {1000 + seed, 1, 0}, number);
    found += finds(space, config, one_hot_genome(space, sets), false);
  }
  return found;
}

// ---- merging: from the identity, every entry of every matrix wants to move by +-kStep

constexpr int32_t kExperts = 4;
constexpr size_t kGroups = 4;
constexpr size_t kEntries = 16;  // of a matrix
constexpr double kStep = 0.1;
constexpr double kDistance = 2.0 * kGroups * kEntries * kStep * kStep;  // squared, from the identity

Genome planted_merge(const GenomeSpace& space, uint64_t seed) {
  Genome planted = identity_genome(space);
  for (size_t group = 0; group < kGroups; ++group) {
    for (size_t i = 0; i < kEntries; ++i) {
      const auto sign = [&](uint32_t column) {
        return static_cast<float>(random_below({seed, Purpose::kFlag, 0, 0, static_cast<uint32_t>(group),
                                                static_cast<uint32_t>(i), column},
                                               2) == 0
                                      ? kStep
                                      : -kStep);
      };
      planted.groups[group].w_em[i] += sign(0);
      planted.groups[group].w_rm[i] += sign(1);
    }
  }
  return planted;
}

// Share of the squared distance to the planted genome that is gone: 0 at the identity, 1 there.
double gain_of(const Genome& genome, const Genome& planted) {
  double left = 0.0;
  for (size_t group = 0; group < kGroups; ++group) {
    for (size_t i = 0; i < kEntries; ++i) {
      const double em = static_cast<double>(genome.groups[group].w_em[i]) -
                        static_cast<double>(planted.groups[group].w_em[i]);
      const double rm = static_cast<double>(genome.groups[group].w_rm[i]) -
                        static_cast<double>(planted.groups[group].w_rm[i]);
      left += em * em + rm * rm;
    }
  }
  return 1.0 - left / kDistance;
}

// What independent single mutations of the identity do not reach. An entry that moves by s z (s = sigma, z
// normal, a = kStep) takes 2 s a z - s^2 z^2 off the squared distance, whose moment generating function is
//   M(t) = (1 + 2 t s^2)^(-1/2) exp(2 t^2 s^2 a^2 / (1 + 2 t s^2)).
// A matrix is flagged with 1/4 and moves each of its entries with 1/4; at least one is flagged. So
//   P(gain > x) <= (3/4 + 1/4 (3/4 + M/4)^entries)^matrices / (1 - (3/4)^matrices) e^(-t x distance),
// and x is the least, over t, for which the tries of all seeds together stay below 1/1000.
double blind_bound(double sigma, double tries) {
  double least = 1.0;
  const double matrices = 2.0 * kGroups;
  for (double t = 1.0; t < 1000.0; t += 1.0) {
    const double spread = 1.0 + 2.0 * t * sigma * sigma;
    const double moment = std::exp(2.0 * t * t * sigma * sigma * kStep * kStep / spread) / std::sqrt(spread);
    const double matrix = 0.75 + 0.25 * std::pow(0.75 + 0.25 * moment, static_cast<double>(kEntries));
    const double log_all = matrices * std::log(matrix) - std::log(1.0 - std::pow(0.75, matrices));
    least = std::min(least, (log_all + std::log(1000.0 * tries)) / (t * kDistance));
  }
  return least;
}

// In how many of the seeds the search goes beyond `threshold`.
int32_t merge_successes(const std::string& algorithm, FitnessKind kind, int32_t population,
                        int64_t evaluations, double threshold) {
  const GenomeSpace space = make_space(kExperts, std::vector<int32_t>(kGroups, kExperts));
  int32_t beyond = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SearchConfig config = config_of(algorithm, kind, population, seed);
    config.merge.evaluations = evaluations;
    config.merge.parameters.normalise_probability = 0.0;  // a step is noise alone, as the bound takes it
    const Genome planted = planted_merge(space, 2000 + seed);
    Search search(space, config);
    const SearchResult result = search.run([&](std::span<const Genome> genomes) {
      std::vector<Evaluation> results;
      for (const Genome& genome : genomes) {
        const double gain = gain_of(genome, planted);
        const double metric = std::floor(200.0 * std::clamp(0.5 + 0.5 * gain, 0.0, 1.0)) / 200.0;
        results.push_back({kind == FitnessKind::kLoglik ? gain : metric, gain, 200});
      }
      return results;
    });
    beyond += gain_of(search.archive()[result.best].genome, planted) > threshold;
  }
  return beyond;
}

}  // namespace

TEST_CASE("pruning finds the planted experts of 70^4, random search does not") {
  // The last wrong expert goes with about .25 (flag) .15 (row) .2 (expert) .85 (nothing else) = 1/160 a
  // child: 2001 children leave it standing in e^-10 of the searches.
  CHECK(prune_successes("eep", FitnessKind::kMetric, 1, 2001, false) >= kNeeded);
  CHECK(prune_successes("eep", FitnessKind::kMetric, 32, 2001, false) >= kNeeded);
  CHECK(prune_successes("eep", FitnessKind::kMetricThenLoglik, 32, 2001, false) >= kNeeded);
  CHECK(prune_successes("eep", FitnessKind::kLoglik, 32, 2001, false) >= kNeeded);
  CHECK(prune_successes("hill_climb", FitnessKind::kMetric, 1, 2001, false) >= kNeeded);
  // 20 * 2001 draws of 24,010,000: expected 0.0017.
  CHECK(prune_successes("random", FitnessKind::kMetric, 32, 2001, false) == 0);
}

TEST_CASE("pruning by sets finds the planted experts") {
  // One sweep over 4 groups of C(8, 4) = 70 subsets.
  CHECK(prune_successes("coordinate", FitnessKind::kMetric, 1, 301, false) >= kNeeded);
  CHECK(prune_successes("coordinate", FitnessKind::kMetric, 32, 301, false) >= kNeeded);
  CHECK(prune_successes("coordinate", FitnessKind::kMetricThenLoglik, 32, 301, true) >= kNeeded);
  // The last wrong expert goes with about 1/4 (group) 1/4 (leaves) 1/4 (enters) of a swap.
  CHECK(prune_successes("level_switch", FitnessKind::kMetric, 32, 2001, false) >= kNeeded);
  CHECK(prune_successes("genetic", FitnessKind::kMetric, 32, 2001, false) >= kNeeded);
  CHECK(prune_successes("genetic", FitnessKind::kMetricThenLoglik, 32, 2001, true) >= kNeeded);
}

TEST_CASE("coordinate swaps where subsets are too many: the planted experts of 12870^4") {
  // A wrong expert of a group's w goes with w^2 / 64 of a swap: about 64 (1 + 1/4 + ...) tries a group.
  CHECK(prune_successes("coordinate", FitnessKind::kMetric, 8, 2001, false, wide_space()) >= kNeeded);
  CHECK(prune_successes("random", FitnessKind::kMetric, 8, 2001, false, wide_space()) == 0);
}

TEST_CASE("kept counts: the planted ones are found under the total") {
  CHECK(count_successes("level_switch", 3001) >= kNeeded);
  CHECK(count_successes("genetic", 3001) >= kNeeded);
}

TEST_CASE("a plateau has a slope where ties are broken by the log-likelihood") {
  CHECK(prune_successes("eep", FitnessKind::kMetricThenLoglik, 32, 2001, true) >= kNeeded);
  CHECK(prune_successes("eep", FitnessKind::kMetricThenLoglik, 32, 1001, true) >
        prune_successes("eep", FitnessKind::kMetric, 32, 1001, true));
}

TEST_CASE("merging goes where no blind mutation gets, random search does not") {
  const double bound = blind_bound(OperatorParameters{}.sigma, kSeeds * 1001.0);
  CAPTURE(bound);
  CHECK(bound > 0.05);
  CHECK(bound < 0.2);
  for (const FitnessKind kind :
       {FitnessKind::kMetric, FitnessKind::kMetricThenLoglik, FitnessKind::kLoglik}) {
    CAPTURE(kind);
    CHECK(merge_successes("eep", kind, 1, 1001, bound) >= kNeeded);
    CHECK(merge_successes("eep", kind, 32, 1001, bound) >= kNeeded);
  }
  CHECK(merge_successes("hill_climb", FitnessKind::kMetric, 32, 1001, bound) >= kNeeded);
  CHECK(merge_successes("random", FitnessKind::kMetric, 32, 1001, bound) == 0);
}
