// Algorithms that move coefficients and hand over their result: budgets, fresh items, resume, planted optima.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "es/algorithms.h"
#include "es/rsgn.h"
#include "kernels/common/error.h"
#include "tests/es/items_problem.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::archive_text;
using eep::test::ItemsProblem;
using eep::test::make_space;

namespace {

std::vector<std::string> merging_alone() {
  std::vector<std::string> names;
  for (const AlgorithmRow& row : algorithms()) {
    if (!row.prunes) names.emplace_back(row.name);
  }
  return names;
}

SearchConfig config_of(const std::string& algorithm, int64_t evaluations, int64_t shard, uint64_t seed = 1) {
  SearchConfig config{.fitness = FitnessKind::kLoglik};
  config.seed = seed;
  config.prune.evaluations = 40;
  config.merge.algorithm = algorithm;
  config.merge.evaluations = evaluations;
  config.shards = {ItemsProblem::kItems, shard, 0};
  if (shard == 0) config.shards = {};
  return config;
}

// rsgn with the steps that it remembers.
SearchConfig remembering(SearchConfig config) {
  for (size_t i = 0; i < algorithms().size(); ++i) {
    if (algorithms()[i].name == "rsgn") config.merge.own[i].as<RsgnParameters>().memory = true;
  }
  return config;
}

// In how many of 20 seeds the result is nearer to the planted genome than `gain` says.
int32_t successes(const std::string& algorithm, size_t groups, int64_t evaluations, double gain,
                  bool memory = false) {
  int32_t found = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const ItemsProblem problem(seed, 4, groups);
    const SearchConfig config = config_of(algorithm, evaluations, 64, seed);
    Search search(problem.space, memory ? remembering(config) : config);
    const SearchResult result = search.run(problem.evaluator());
    const double reached = problem.gain(search.archive()[result.best].genome);
    INFO(algorithm << " seed " << seed << ": " << reached);
    CHECK(reached > 0.0);
    found += reached > gain;
  }
  return found;
}

}  // namespace

TEST_CASE("distributions: exact budgets, one shard a generation, a result that is handed over") {
  const ItemsProblem problem(1);
  for (const std::string& name : merging_alone()) {
    for (const int64_t evaluations : {6, 7, 23, 100, 301}) {
      for (const int64_t shard : {0, 32}) {
        CAPTURE(name);
        CAPTURE(evaluations);
        CAPTURE(shard);
        Search search(problem.space, config_of(name, evaluations, shard));
        int64_t behind = 0;  // the last shard
        const SearchResult result = search.run(problem.evaluator(), [&](const SearchProgress& progress) {
          const ArchiveEntry& first = search.archive()[progress.first];
          for (int64_t i = progress.first; i < progress.end; ++i) {
            CHECK(search.archive()[i].shard == first.shard);
            CHECK(search.archive()[i].result.n == first.result.n);
          }
          if (shard == 0) {
            CHECK(first.shard == -1);
            return;
          }
          CHECK(first.shard >= behind);
          CHECK(first.result.n >= shard);
          behind = first.shard + first.result.n;
        });
        CHECK(result.evaluations == evaluations);
        CHECK(result.finished);
        CHECK(search.archive()[result.best].origin != "probe");
        const std::vector<int64_t> leaders = search.leaders(10, false);
        REQUIRE(!leaders.empty());
        CHECK(leaders[0] == result.best);
        CHECK(leaders.size() <= 2);
        for (const ArchiveEntry& entry : search.archive().entries()) {
          const bool last = entry.generation == search.archive()[evaluations - 1].generation;
          if (!last) CHECK(entry.result.decisions.empty());
        }
      }
    }
  }
}

TEST_CASE("distributions resume at every generation to the same bytes") {
  const ItemsProblem problem(2);
  for (const std::string& name : merging_alone()) {
    CAPTURE(name);
    const SearchConfig config = config_of(name, 150, 32);
    std::vector<std::string> states;
    Search whole(problem.space, config);
    states.push_back(whole.state());
    whole.run(problem.evaluator(), [&](const SearchProgress&) { states.push_back(whole.state()); });
    const std::string reference = archive_text(whole);
    for (const std::string& state : states) {
      Search resumed(problem.space, config, {}, state, "checkpoint");
      CHECK(resumed.state() == state);
      resumed.run(problem.evaluator());
      CHECK(archive_text(resumed) == reference);
      CHECK(resumed.leaders(5, false) == whole.leaders(5, false));
    }
    SearchConfig other = config;
    other.shards.shard = 16;
    CHECK_THROWS_AS(Search(problem.space, other, {}, states[1], "checkpoint"), Error);
  }
}

TEST_CASE("distributions: rsgn with memory resumes at every generation, and again, to the same bytes") {
  const ItemsProblem problem(2);
  const SearchConfig config = remembering(config_of("rsgn", 200, 32));
  std::vector<std::string> states;
  Search whole(problem.space, config);
  std::string appended = whole.state();
  int64_t remembered = 0;
  whole.run(problem.evaluator(), [&](const SearchProgress& progress) {
    states.push_back(whole.state());
    appended += whole.state_of(progress.first, progress.end);
    CHECK(appended == states.back());
  });
  for (const ArchiveEntry& entry : whole.archive().entries()) {
    CHECK(!entry.result.decisions.empty());
    remembered += entry.origin == "remembered";
  }
  CHECK(remembered >= 9);  // three a step, of three steps or more
  for (const std::string& state : states) {
    Search resumed(problem.space, config, {}, state, "checkpoint");
    const Search again(problem.space, config, {}, resumed.state(), "checkpoint");
    CHECK(again.state() == state);
    resumed.run(problem.evaluator());
    CHECK(archive_text(resumed) == archive_text(whole));
  }
}

TEST_CASE("distributions start from the prune phase's best, on the fixed items, or from a given plan") {
  const GenomeSpace space = make_space(8, {4, 4});
  const auto fitness = [](const EvaluationRequest& request) {
    std::vector<Evaluation> results;
    for (const Genome& genome : request.genomes) {
      Evaluation result = test::hashed_evaluation(genome, 8);
      result.n = request.items.empty() ? 99 : static_cast<int32_t>(request.items.size());
      if (request.decisions) {
        for (int32_t i = 0; i < result.n; ++i) {
          result.decisions.values.push_back(-1.0f);
          result.decisions.item_end.push_back(i + 1);
          result.decisions.right.push_back(-1);
        }
      }
      results.push_back(result);
    }
    return results;
  };
  for (const std::string& name : merging_alone()) {
    CAPTURE(name);
    Search search(space, config_of(name, 60, 16));
    const SearchResult result = search.run(fitness);
    const Archive& archive = search.archive();
    for (int64_t i = 0; i < 40; ++i) CHECK(archive[i].shard == -1);
    for (int64_t i = 40; i < 100; ++i) CHECK(archive[i].shard >= 0);
    CHECK(result.prune_best == archive.best(0, 40));
    CHECK(search.leaders(3, true)[0] == result.prune_best);
    if (archive[40].origin == "mean") CHECK(archive[40].genome == archive[result.prune_best].genome);
    Genome given = one_hot_genome(space, {{0, 1, 2, 3}, {4, 5, 6, 7}});
    given.groups[0].w_em[3] = 0.5f;
    Search from(space, config_of(name, 60, 16), {{"given", given}});
    from.run(fitness);
    // The first generation stands around the given plan.
    double largest = 0;
    for (size_t i = 0; i < given.groups[0].w_em.size(); ++i) {
      largest = std::max(largest, static_cast<double>(std::abs(from.archive()[40].genome.groups[0].w_em[i] -
                                                               given.groups[0].w_em[i])));
    }
    CHECK(largest < 0.75);
  }
}

TEST_CASE("distributions: decisions are read from evaluations that have them, on fixed items too") {
  // Pruning scores the start without decisions, and on the same items as merging.
  GenomeSpace space = make_space(8, {4, 4});
  int64_t asked = 0;
  const auto evaluate = [&](const EvaluationRequest& request) {
    std::vector<Evaluation> results;
    for (const Genome& genome : request.genomes) {
      Evaluation result = test::hashed_evaluation(genome, 8);
      asked += request.decisions;
      if (request.decisions) result.decisions = {{-1.0f, -2.0f}, {1, 2}, {-1, -1}};
      results.push_back(result);
    }
    return results;
  };
  Search search(space, config_of("rsgn", 60, 0));
  CHECK(search.run(evaluate).finished);
  CHECK(search.archive()[40].origin == "mean");
  CHECK(!search.archive()[40].cached);
  CHECK(asked > 50);
}

TEST_CASE("distributions: the planted optimum is found with fresh items") {
  CHECK(successes("rsgn", 2, 300, 0.8) >= 19);  // of 64 coefficients
  CHECK(successes("rsgn", 2, 300, 0.8, /*memory=*/true) >= 19);
  CHECK(successes("snes", 1, 1000, 0.95) >= 19);  // of 32
  CHECK(successes("cma", 1, 1000, 0.95) >= 19);
  CHECK(successes("sep_cma", 1, 1000, 0.95) >= 19);
  CHECK(successes("openai_es", 1, 1000, 0.95) >= 19);
}
