// The loop: budgets, phases, answers from the archive, warm starts, and one test that drives every algorithm.
#include <doctest/doctest.h>
#include <xxhash.h>

#include <limits>
#include <map>
#include <set>
#include <stdexcept>

#include "es/algorithms.h"
#include "es/search.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::archive_text;
using eep::test::check_rate;
using eep::test::hashed_evaluation;
using eep::test::hashed_evaluator;
using eep::test::kept_experts;
using eep::test::make_space;

namespace {

SearchConfig config_of(const std::string& algorithm, int32_t population, int64_t prune, int64_t merge) {
  SearchConfig config{.fitness = FitnessKind::kMetricThenLoglik};
  config.population = population;
  test::set_algorithm(&config, algorithm);
  config.prune.evaluations = prune;
  config.merge.evaluations = merge;
  return config;
}

}  // namespace

TEST_CASE("every algorithm: exact budgets, order, answers, and the same bytes in any chunks") {
  const GenomeSpace space = make_space(8, {4, 4, 4});
  for (const std::string_view name : algorithm_names(Phase::kPrune)) {
    for (const int32_t population : {1, 7, 32, 500}) {
      CAPTURE(name);
      CAPTURE(population);
      const SearchConfig config = config_of(std::string(name), population, 101, 301);
      std::string reference;
      for (const size_t chunk : {size_t{1000}, size_t{1}, size_t{5}}) {
        Search search(space, config);
        CHECK(search.total_evaluations() == 402);
        std::set<GenomeHash> asked;
        const Evaluate evaluate = [&](std::span<const Genome> genomes) {
          CHECK(genomes.size() <= static_cast<size_t>(population));
          std::vector<Evaluation> results;
          for (size_t begin = 0; begin < genomes.size(); begin += chunk) {
            for (const Genome& genome : genomes.subspan(begin, std::min(chunk, genomes.size() - begin))) {
              CHECK(asked.insert(canonical_hash(genome, 8)).second);  // never twice
              CHECK(genome == canonical(genome, 8));
              results.push_back(hashed_evaluation(genome, 8));
            }
          }
          return results;
        };
        int64_t seen = 0;
        uint32_t generation = 0;
        const SearchResult result = search.run(evaluate, [&](const SearchProgress& progress) {
          CHECK(progress.first == seen);
          CHECK(progress.generation == generation++);
          CHECK(progress.end > progress.first);
          CHECK(progress.end - progress.first <= population);
          CHECK(progress.total == 402);
          CHECK(progress.phase_ended == (progress.end == 101 || progress.end == 402));
          CHECK(progress.ended == (progress.end == 402));
          seen = progress.end;
        });
        CHECK(result.finished);
        CHECK(result.evaluations == 402);
        CHECK(result.unique == static_cast<int64_t>(asked.size()));
        CHECK(result.prune_best == search.archive().best(0, 101));
        CHECK(result.best == search.archive().best());
        CHECK(search.done());
        for (int64_t i = 0; i < 402; ++i) {
          const ArchiveEntry& entry = search.archive()[i];
          CHECK(entry.evaluation == i);
          CHECK((entry.phase == Phase::kPrune) == (i < 101));
          if (i < 101) CHECK(is_one_hot(entry.genome, 8));
          CHECK(entry.cached == (search.archive().find(entry.hash) < i));
          CHECK(entry.result == hashed_evaluation(entry.genome, 8));
        }
        if (reference.empty()) reference = archive_text(search);
        CHECK(archive_text(search) == reference);
      }
    }
  }
}

TEST_CASE("eep: 31 random, 70 mutated, 301 merged; initials differ") {
  const GenomeSpace space = make_space(8, {2, 2});
  for (const int32_t population : {1, 32}) {
    Search search(space, config_of("eep", population, 101, 301));
    search.run(hashed_evaluator(8));
    std::set<GenomeHash> initial;
    int64_t crossovers = 0;
    for (const ArchiveEntry& entry : search.archive().entries()) {
      CHECK((entry.origin == "random") == (entry.evaluation < 31));
      if (entry.evaluation < 31) CHECK(initial.insert(entry.hash).second);
      if (entry.evaluation < 101) CHECK(entry.origin != "crossover");
      crossovers += entry.origin == "crossover";
      if (population == 1) CHECK(entry.generation == entry.evaluation);
    }
    check_rate(crossovers, 301, 0.3);
  }
}

TEST_CASE("a space smaller than the initial population repeats itself and ends") {
  Search search(make_space(4, {3}), config_of("eep", 8, 101, 0));
  const SearchResult result = search.run(hashed_evaluator(4));
  CHECK(result.evaluations == 101);
  CHECK(result.unique == 4);
  for (int64_t i = 0; i < 4; ++i) CHECK_FALSE(search.archive()[i].cached);
  Search random(make_space(4, {3}), config_of("random", 8, 101, 0));
  CHECK(random.run(hashed_evaluator(4)).unique == 4);
}

TEST_CASE("seeds and populations give different searches, equal ones the same") {
  const GenomeSpace space = make_space(8, {4, 4});
  const auto text = [&](uint64_t seed, int32_t population) {
    SearchConfig config = config_of("eep", population, 50, 50);
    config.seed = seed;
    Search search(space, config);
    search.run(hashed_evaluator(8));
    return archive_text(search);
  };
  CHECK(text(1, 4) == text(1, 4));
  CHECK(text(1, 4) != text(2, 4));
  CHECK(text(1, 4) != text(1, 5));
}

TEST_CASE("the archive is the same file on every machine and compiler") {
  struct Case {
    const char* algorithm;
    uint64_t hash;
  };
  for (const Case& c : {Case{"eep", 13730893089717205731u}, Case{"eep_released", 14776895297893477346u},
                        Case{"hill_climb", 11540606567489712313u}, Case{"random", 11215762714469412144u}}) {
    Search search(make_space(8, {4, 4, 4}), config_of(c.algorithm, 8, 101, 301));
    search.run(hashed_evaluator(8));
    const std::string text = archive_text(search);
    CHECK(XXH3_64bits(text.data(), text.size()) == c.hash);
  }
}

TEST_CASE("all experts kept: merging alone, from the identity") {
  const GenomeSpace space = make_space(8, {8, 8});
  for (const std::string_view name : algorithm_names(Phase::kPrune)) {
    CAPTURE(name);
    Search search(space, config_of(std::string(name), 8, 101, 40), {{"reap", identity_genome(space)}});
    CHECK(search.total_evaluations() == 40);
    CHECK(search.prune_end() == 0);
    const SearchResult result = search.run(hashed_evaluator(8));
    CHECK(result.evaluations == 40);
    CHECK(result.prune_best == -1);
    CHECK(search.archive()[0].origin == "full");
    CHECK(search.archive()[0].genome == identity_genome(space));
    CHECK(search.archive()[0].phase == Phase::kMerge);
    CHECK(search.archive()[1].origin != "full");
    CHECK(search.leaders(5, true).empty());
    CHECK(search.leaders(5, false).size() == 5);
  }
  CHECK_THROWS_AS(Search(space, config_of("eep", 8, 101, 0)), Error);
}

TEST_CASE("warm starts take the place of the first initials; dense ones open the merge phase") {
  const GenomeSpace space = make_space(8, {4, 4});
  const Genome frequency = one_hot_genome(space, {{0, 1, 2, 3}, {0, 1, 2, 3}});
  const Genome reap = one_hot_genome(space, {{4, 5, 6, 7}, {0, 1, 2, 3}});
  Genome dense = reap;
  dense.groups[1].w_em[0] = 0.5f;
  for (const std::string_view name : algorithm_names(Phase::kPrune)) {
    CAPTURE(name);
    Search search(space, config_of(std::string(name), 8, 101, 301),
                  {{"frequency", frequency}, {"merged", dense}, {"reap", reap}, {"same", frequency}});
    search.run(hashed_evaluator(8));
    const Archive& archive = search.archive();
    CHECK(archive.size() == 402);
    if (name == "eep_released") {
      // reap and the dense one are not one shared pair.
      CHECK(archive[0].origin == "frequency");
      CHECK(archive[1].origin == "same");
      CHECK(archive[2].origin == "random");
      CHECK(archive[30].origin == "random");
      CHECK(archive[31].origin == "mutation");
      CHECK(archive[101].origin != "merged");
      continue;
    }
    CHECK(archive[0].origin == "frequency");
    CHECK(archive[1].origin == "reap");
    CHECK(archive[2].origin == "same");
    CHECK(archive[2].cached);
    // How many random genomes follow the starts is the algorithm's.
    const std::map<std::string_view, int64_t> initial{{"eep", 31},       {"random", 101},
                                                      {"hill_climb", 1}, {"coordinate", 1},
                                                      {"genetic", 32},   {"level_switch", 8}};
    REQUIRE(initial.contains(name));
    for (int64_t i = 3; i < 101; ++i) CHECK((archive[i].origin == "random") == (i < initial.at(name)));
    CHECK(archive[101].origin == "merged");
    CHECK(archive[101].genome == dense);
    CHECK(archive[102].origin != "merged");
    // Never below the best start.
    CHECK(archive.compare(archive[search.result().prune_best].result, archive[0].result) >= 0);
  }
}

TEST_CASE("warm starts that do not fit are refused") {
  const GenomeSpace space = make_space(8, {4, 4});
  const auto refused = [&](auto change) {
    WarmStart start{"reap", one_hot_genome(space, {{0, 1, 2, 3}, {0, 1, 2, 3}})};
    change(start);
    CHECK_THROWS_AS(Search(space, SearchConfig{}, {start}), Error);
  };
  refused([](WarmStart& s) { s.genome.groups.pop_back(); });
  refused([](WarmStart& s) { s.genome.groups[0].kept = 3; });
  refused([](WarmStart& s) { s.genome.groups[0].w_rm.pop_back(); });
  refused([](WarmStart& s) { s.genome.groups[0].w_em[0] = std::numeric_limits<float>::infinity(); });
  refused([](WarmStart& s) { s.name = ""; });
  refused([](WarmStart& s) { s.name = std::string(70000, 'x'); });
}

TEST_CASE("kept counts vary under a total: level_switch and genetic hold it, others refuse") {
  const GenomeSpace space = test::make_counts_space(8, 4, 18, 2, 7);
  CHECK(space.kept == std::vector<int32_t>{5, 5, 4, 4});
  for (const AlgorithmRow& row : algorithms()) {
    if (!row.prunes) continue;
    CAPTURE(row.name);
    SearchConfig config = config_of("eep", 8, 200, 40);
    test::set_algorithm(&config, row.name);
    if (!row.counts) {
      CHECK_THROWS_AS(Search(space, config), Error);
      continue;
    }
    Search search(space, config);
    search.run(hashed_evaluator(8));
    std::set<std::vector<int32_t>> counts;
    for (const ArchiveEntry& entry : search.archive().entries()) {
      std::vector<int32_t> kept;
      int32_t total = 0;
      for (const GroupGenes& group : entry.genome.groups) {
        CHECK(group.kept >= 2);
        CHECK(group.kept <= 7);
        total += group.kept;
        kept.push_back(group.kept);
        CHECK(group.w_em.size() == static_cast<size_t>(group.kept) * 8);
      }
      CHECK(total == 18);
      counts.insert(kept);
      if (entry.phase == Phase::kPrune) CHECK(is_one_hot(entry.genome, 8));
    }
    CHECK(counts.size() > 3);
    const ExpertPlan plan = search.plan(search.result().best);
    CHECK(from_plan(space, plan, "plan") == canonical(search.archive()[search.result().best].genome, 8));
  }
}

TEST_CASE("algorithms that move coefficients keep the counts that pruning found") {
  const GenomeSpace space = test::make_counts_space(8, 3, 9, 1, 6);
  for (const AlgorithmRow& row : algorithms()) {
    if (!row.merges) continue;
    CAPTURE(row.name);
    SearchConfig config = config_of("level_switch", 8, 120, 60);
    config.merge.algorithm = row.name;
    Search search(space, config);
    const auto evaluate = [](const EvaluationRequest& request) {
      std::vector<Evaluation> results;
      for (const Genome& genome : request.genomes) {
        Evaluation result = hashed_evaluation(genome, 8);
        result.fitness += genome.groups[1].kept == 5 ? 2.0 : 0.0;  // an uneven one is the best
        if (request.decisions) result.decisions = {{-1.0f, -2.0f}, {1, 2}, {-1, -1}};
        results.push_back(result);
      }
      return results;
    };
    if (row.name == "eep_released") {
      CHECK_THROWS_AS(search.run(evaluate), Error);
      continue;
    }
    CHECK(search.run(evaluate).finished);
    CHECK(search.archive()[search.result().prune_best].genome.groups[1].kept == 5);
    for (const ArchiveEntry& entry : search.archive().entries()) CHECK(!wrong_counts(space, entry.genome));
  }
}

TEST_CASE("eep_released: one pair for all layers; eep: not so") {
  const GenomeSpace space = make_space(8, {4, 4, 4});
  for (const char* name : {"eep_released", "eep"}) {
    Search search(space, config_of(name, 8, 101, 301));
    search.run(hashed_evaluator(8));
    int64_t shared = 0;
    for (const ArchiveEntry& entry : search.archive().entries()) {
      shared += entry.genome.groups[0] == entry.genome.groups[1] &&
                entry.genome.groups[0] == entry.genome.groups[2];
    }
    if (std::string(name) == "eep_released")
      CHECK(shared == 402);
    else
      CHECK(shared == 0);
  }
  Search uneven(make_space(8, {4, 3}), config_of("eep_released", 8, 101, 0));
  CHECK_THROWS_AS(uneven.run(hashed_evaluator(8)), Error);
}

TEST_CASE("eep_released: the published no-op rates") {
  // Every child is made from the first genome, the only one near the best.
  struct Case {
    int32_t kept;
    double rate;
  };
  for (const Case& c : {Case{4, 0.90}, Case{2, 0.94}, Case{6, 0.88}}) {
    const double exact = 0.75 + 0.25 * std::pow(1.0 - 0.15 * (1.0 - 1.0 / (8 - c.kept + 1)), c.kept);
    CHECK(std::abs(exact - c.rate) < 0.005);
    const GenomeSpace space = make_space(8, {c.kept, c.kept});
    SearchConfig config = config_of("eep_released", 100, 8001, 8000);
    config.prune.parameters.initial = 1;
    config.prune.parameters.parent_rule = config.merge.parameters.parent_rule = ParentRule::kRanking;
    config.prune.parameters.mutation_rank = config.merge.parameters.mutation_rank = 1;
    config.merge.parameters.crossover_probability = config.merge.parameters.normalise_probability = 0.0;
    config.fitness = FitnessKind::kLoglik;
    Search search(space, config);
    bool first = true;
    search.run([&](std::span<const Genome> genomes) {
      std::vector<Evaluation> results(genomes.size(), Evaluation{0.0, 0.0, 1});
      if (first) results[0].fitness = 1.0;
      first = false;
      return results;
    });
    int64_t prune = 0, merge = 0;
    for (int64_t i = 1; i < search.archive().size(); ++i) {
      const bool same = search.archive()[i].genome == search.archive()[0].genome;
      (i < 8001 ? prune : merge) += same;
    }
    check_rate(prune, 8000, exact);
    // Unflagged, or flagged with no element drawn: (.75 + .25 * .75^(8 K)) for either matrix.
    check_rate(merge, 8000, std::pow(0.75 + 0.25 * std::pow(0.75, 8 * c.kept), 2));
  }
}

TEST_CASE("hill climbing: children of the incumbent, which never gets worse") {
  const GenomeSpace space = make_space(8, {4});
  // Fitness: how many of the experts 0..3 stay.
  Search search(space, config_of("hill_climb", 4, 400, 0));
  search.run([](std::span<const Genome> genomes) {
    std::vector<Evaluation> results;
    for (const Genome& genome : genomes) {
      double right = 0.0;
      for (const int32_t expert : kept_experts(genome.groups[0], 8)) right += expert < 4 ? 0.25 : 0.0;
      results.push_back({right, 0.0, 4});
    }
    return results;
  });
  CHECK(search.archive()[search.result().best].result.fitness == 1.0);
  CHECK(search.archive()[0].origin == "random");
  CHECK(search.archive()[1].origin == "mutation");
}

TEST_CASE("NaN fitness ranks last and does not stop a search") {
  const GenomeSpace space = make_space(8, {4, 4});
  Search search(space, config_of("eep", 8, 60, 60));
  const SearchResult result = search.run([](std::span<const Genome> genomes) {
    std::vector<Evaluation> results;
    for (const Genome& genome : genomes) {
      Evaluation each = hashed_evaluation(genome, 8);
      if (each.fitness > 0.3) each.fitness = std::numeric_limits<double>::quiet_NaN();
      results.push_back(each);
    }
    return results;
  });
  CHECK(result.finished);
  CHECK(search.archive()[result.best].result.fitness <= 0.3);
  Search all(space, config_of("eep", 8, 60, 60));
  CHECK(all.run([](std::span<const Genome> genomes) {
             return std::vector<Evaluation>(genomes.size(),
                                            Evaluation{std::numeric_limits<double>::quiet_NaN(), 0.0, 1});
           })
            .best == 0);
}

TEST_CASE("impossible configurations are refused") {
  const GenomeSpace space = make_space(8, {4});
  const auto refused = [&](auto change) {
    SearchConfig config;
    change(config);
    CHECK_THROWS_AS(Search(space, config), Error);
  };
  CHECK_NOTHROW(Search(space, SearchConfig{}));
  refused([](SearchConfig& c) { c.population = 0; });
  refused([](SearchConfig& c) { c.population = 1 << 30; });
  refused([](SearchConfig& c) { c.prune.evaluations = 0; });
  refused([](SearchConfig& c) { c.merge.evaluations = -1; });
  refused([](SearchConfig& c) { c.prune.algorithm = "annealing"; });
  refused([](SearchConfig& c) { c.merge.parameters.sigma = -1.0; });
  GenomeSpace wrong = space;
  wrong.kept = {9};
  CHECK_THROWS_AS(Search(wrong, SearchConfig{}), Error);
}

TEST_CASE("an evaluator that gives the wrong number of results is an error") {
  Search search(make_space(8, {4}), config_of("eep", 8, 40, 0));
  CHECK_THROWS_AS(search.step([](std::span<const Genome>) { return std::vector<Evaluation>(3); }), Error);
  CHECK(search.archive().empty());
}

namespace {

struct OwnNumbers {
  double step = 0.5;
  int32_t directions = 48;
  bool memory = false;

  bool operator==(const OwnNumbers&) const = default;
};

void visit(ParameterVisitor& v, OwnNumbers& p) {
  v.number("step", p.step, 0, 1);
  v.integer("directions", p.directions, 1, 100);
  v.flag("memory", p.memory);
}

}  // namespace

TEST_CASE("parameters of an algorithm's own: copied, compared and checked by value") {
  const Parameters defaults = Parameters::of(OwnNumbers{});
  Parameters changed = defaults;
  CHECK(changed == defaults);
  CHECK(!(changed == Parameters()));
  CHECK(Parameters() == Parameters());
  changed.as<OwnNumbers>().directions = 12;
  CHECK(!(changed == defaults));
  CHECK(defaults.as<OwnNumbers>().directions == 48);
  ParameterCheck check("search.merge.own");
  CHECK_NOTHROW(changed.walk(check));
  changed.as<OwnNumbers>().directions = 0;
  CHECK_THROWS_WITH_AS(changed.walk(check),
                       "search.merge.own.directions: value out of range (expected 1..100, got 0)", Error);
}

TEST_CASE("every algorithm's row is complete, and its defaults are in range") {
  std::set<std::string_view> names;
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    CHECK(names.insert(row.name).second);
    CHECK(!row.words.empty());
    CHECK((row.prunes || row.merges));
    SearchConfig config;
    if (row.prunes) config.prune.algorithm = row.name;
    if (row.merges) config.merge.algorithm = row.name;
    CHECK_NOTHROW(check_search_config(config));
  }
}
