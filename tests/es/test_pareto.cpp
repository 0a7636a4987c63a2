// Several objectives: dominance, fronts, and a search that fills them.
#include <doctest/doctest.h>

#include <map>

#include "es/pareto.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::kept_experts;
using eep::test::make_counts_space;

namespace {

// Genomes of one group that keep so many experts, with these scores.
Archive archive_of(const GenomeSpace& space, const std::vector<std::pair<int32_t, double>>& entries) {
  Archive archive(FitnessKind::kMetric);
  for (const auto& [kept, score] : entries) {
    std::vector<int32_t> experts;
    // Different genomes of one size, as long as there are.
    for (int32_t i = 0; i < kept; ++i)
      experts.push_back((i + static_cast<int32_t>(archive.size())) % space.experts);
    ArchiveEntry entry;
    entry.genome = one_hot_genome(space, {experts});
    entry.hash = canonical_hash(entry.genome, space.experts);
    entry.result = {score, 0.0, 10};
    archive.append(std::move(entry));
  }
  return archive;
}

}  // namespace

TEST_CASE("pareto: a front holds what nothing dominates, one of each size") {
  const GenomeSpace space = make_counts_space(8, 1, 8, 1, 8);
  const Archive archive =
      archive_of(space, {{8, 0.9}, {4, 0.9}, {4, 0.8}, {2, 0.7}, {3, 0.6}, {1, 0.1}, {5, 0.95}});
  const Objectives two{true, false};
  // 8 is beaten by 4, 3 by 2.
  CHECK(pareto_front(archive, space, two) == std::vector<int64_t>{5, 3, 1, 6});
  CHECK(pareto_front(archive, space, {}) == std::vector<int64_t>{6});
  const std::vector<int64_t> all{0, 1, 2, 3, 4, 5, 6};
  std::vector<int64_t> first = pareto_best(archive, space, two, all, 4);
  CHECK(first[0] == 6);  // the ends of the front, best score first
  CHECK(first[1] == 5);
  std::sort(first.begin(), first.end());
  CHECK(first == std::vector<int64_t>{1, 3, 5, 6});
  CHECK(pareto_best(archive, space, two, all, 100).size() == 7);
  CHECK(best_of_sizes(archive, space, two, 2) ==
        std::vector<std::vector<int64_t>>{{5}, {3}, {4}, {1, 2}, {6}, {0}});
  CHECK(best_of_sizes(archive, space, {}, 2) == std::vector<std::vector<int64_t>>{{6, 0}});
  // Alone the score decides.
  CHECK(pareto_best(archive, space, {}, all, 3)[0] == 6);
}

TEST_CASE("pareto: active experts are at most those kept") {
  GenomeSpace space = make_counts_space(8, 2, 8, 1, 8);
  Genome genome = one_hot_genome(space, {{0}, {1, 2, 3}});
  CHECK(genome_size(space, genome) == GenomeSize{4, 3});
  genome.top_k = 1;
  CHECK(genome_size(space, genome) == GenomeSize{4, 2});
}

TEST_CASE("pareto: genetic finds the planted front of sizes, in 19 of 20 seeds") {
  // Score: the share of the planted 8 experts that stay; the best of every size is known. 4 groups of 8.
  const GenomeSpace space = make_counts_space(8, 4, 16, 1, 7);
  int32_t found = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SearchConfig config{.fitness = FitnessKind::kMetric};
    config.seed = seed;
    config.objectives = {true, false};
    config.prune.algorithm = "genetic";
    config.prune.evaluations = 4001;
    config.merge.evaluations = 0;
    const Genome planted = random_one_hot(test::make_space(8, {2, 2, 2, 2}), {1000 + seed, 0, 0}, 0);
    Search search(space, config);
    search.run([&](std::span<const Genome> genomes) {
      std::vector<Evaluation> results;
      for (const Genome& genome : genomes) {
        double hits = 0;
        for (size_t group = 0; group < 4; ++group) {
          const std::vector<int32_t> wanted = kept_experts(planted.groups[group], 8);
          for (const int32_t expert : kept_experts(genome.groups[group], 8))
            hits += static_cast<double>(std::count(wanted.begin(), wanted.end(), expert));
        }
        results.push_back({hits / 8.0, 0.0, 8});
      }
      return results;
    });
    std::map<int64_t, double> front;
    for (const int64_t evaluation : pareto_front(search.archive(), space, config.objectives)) {
      const ArchiveEntry& entry = search.archive()[evaluation];
      front[genome_size(space, entry.genome).kept] = entry.result.fitness;
    }
    // Every size from 4 (one a group) to 8 can be all right; more adds nothing.
    const std::map<int64_t, double> wanted{{4, 0.5}, {5, 0.625}, {6, 0.75}, {7, 0.875}, {8, 1.0}};
    found += front == wanted;
  }
  CHECK(found >= 19);
}

TEST_CASE("pareto: top_k is part of the genome where it varies, and a search holds its bounds") {
  GenomeSpace space = test::make_space(8, {4, 4});
  space.top_k = 3;
  space.top_k_least = 1;
  for (const char* name : {"genetic", "level_switch"}) {
    CAPTURE(name);
    SearchConfig config;
    config.prune.algorithm = name;
    config.prune.evaluations = 300;
    config.merge.algorithm = "snes";
    config.merge.evaluations = 50;
    Search search(space, config);
    std::map<int32_t, int64_t> seen;
    std::vector<std::string> states;
    search.run(test::hashed_evaluator(8), [&](const SearchProgress&) { states.push_back(search.state()); });
    for (const ArchiveEntry& entry : search.archive().entries()) {
      const ExpertPlan plan = to_plan(space, entry.genome);
      CHECK(plan.top_k >= 1);
      CHECK(plan.top_k <= 3);
      ++seen[plan.top_k];
      CHECK(canonical_hash(from_plan(space, plan, "plan"), 8) == entry.hash);
    }
    CHECK(seen.size() == 3);
    for (size_t i = 0; i < states.size(); i += 3) {
      Search resumed(space, config, {}, states[i], "checkpoint");
      resumed.run(test::hashed_evaluator(8));
      CHECK(test::archive_text(resumed) == test::archive_text(search));
    }
  }
  SearchConfig config;
  CHECK_THROWS_AS(Search(space, config), Error);  // eep leaves top_k as it is
}

TEST_CASE("pareto: objectives that the search cannot vary are refused") {
  SearchConfig config;
  config.prune.algorithm = "genetic";
  config.objectives = {true, false};
  CHECK_THROWS_AS(Search(test::make_space(8, {4, 4}), config), Error);
  config.objectives = {false, true};
  CHECK_THROWS_AS(Search(make_counts_space(8, 2, 8, 1, 8), config), Error);
  config.objectives = {true, false};
  CHECK_NOTHROW(Search(make_counts_space(8, 2, 8, 1, 8), config));
  config.prune.algorithm = "level_switch";
  CHECK_THROWS_AS(Search(make_counts_space(8, 2, 8, 1, 8), config), Error);
}
