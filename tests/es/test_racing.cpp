// Racing: which candidates are dropped, what that saves, and that it changes nothing else.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "es/racing.h"
#include "es/random.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::make_space;

namespace {

constexpr int32_t kItems = 512;

// A planted kept set of 4 groups of 8 experts: an item is right with a probability that grows with the share
// of needed experts, by a draw that belongs to the item and to how many are kept, so that equal shares differ
// in no item and a better one is better on most items.
class RacedProblem {
 public:
  explicit RacedProblem(uint64_t seed) : space(make_space(8, {4, 4, 4, 4})), seed_(seed) {
    planted = random_one_hot(space, {1000 + seed, 0, 0}, 0);
  }

  int32_t hits(const Genome& genome) const {
    int32_t hits = 0;
    for (size_t group = 0; group < 4; ++group) {
      const std::vector<int32_t> wanted = test::kept_experts(planted.groups[group], 8);
      for (const int32_t expert : test::kept_experts(genome.groups[group], 8))
        hits += static_cast<int32_t>(std::count(wanted.begin(), wanted.end(), expert));
    }
    return hits;
  }

  Evaluation evaluate(const Genome& genome, const EvaluationRequest& request) {
    const int32_t right = hits(genome);
    std::vector<int32_t> items(request.items.begin(), request.items.end());
    if (items.empty()) {
      items.resize(kItems);
      std::iota(items.begin(), items.end(), 0);
    }
    Evaluation result;
    for (const int32_t item : items) {
      const Address address{seed_, Purpose::kFlag, 0, 0, 0, static_cast<uint32_t>(item), 0};
      const double score = random_uniform(address) < right / 16.0 ? 1.0 : 0.0;
      result.fitness += score;
      if (request.values) result.items.push_back({score, score - 1.0});
    }
    seen += static_cast<int64_t>(items.size());
    result.n = static_cast<int32_t>(items.size());
    result.fitness /= result.n;
    result.tiebreak = right / 16.0 - 1.0;
    if (request.values) {  // the mean of the items' is what racing makes
      for (ItemValue& item : result.items) item.loglik = result.tiebreak;
    }
    return result;
  }

  EvaluateItems evaluator() {
    return [this](const EvaluationRequest& request) {
      std::vector<Evaluation> results;
      for (const Genome& genome : request.genomes) results.push_back(evaluate(genome, request));
      return results;
    };
  }

  GenomeSpace space;
  Genome planted;
  int64_t seen = 0;  // items, of all evaluations

 private:
  uint64_t seed_;
};

SearchConfig config_of(std::string_view algorithm, uint64_t seed, bool races) {
  SearchConfig config;
  config.seed = seed;
  config.population = 16;
  test::set_algorithm(&config, algorithm);
  config.prune.evaluations = 600;
  config.merge.evaluations = 0;
  config.racing = {.on = races, .first = 32, .errors = 3.0, .keep = 4};
  return config;
}

}  // namespace

TEST_CASE("subsets double up to all items") {
  CHECK(race_sizes({.first = 64}, 512) == std::vector<int64_t>{64, 128, 256, 512});
  CHECK(race_sizes({.first = 64}, 100) == std::vector<int64_t>{64, 100});
  CHECK(race_sizes({.first = 64}, 64) == std::vector<int64_t>{64});
  CHECK(race_sizes({.first = 64}, 10) == std::vector<int64_t>{10});
  const std::vector<int32_t> order = race_order(3, 200);
  CHECK(std::set<int32_t>(order.begin(), order.end()).size() == 200);
  CHECK(order == race_order(3, 200));
  CHECK(order != race_order(4, 200));
}

TEST_CASE("a race drops what is below by more errors than asked for") {
  std::vector<double> differences(64, 0.0);
  CHECK_FALSE(surely_below(differences, 512, 3.0));  // equal
  for (size_t i = 0; i < 32; ++i) differences[i] = -1.0;
  CHECK(surely_below(differences, 512, 3.0));  // half the items lost
  for (size_t i = 0; i < 64; ++i) differences[i] = i % 2 == 0 ? -1.0 : 1.0;
  CHECK_FALSE(surely_below(differences, 512, 3.0));
  differences.assign(64, 0.0);
  differences[0] = -1.0;
  CHECK_FALSE(surely_below(differences, 512, 3.0));  // one item is no proof
  CHECK_FALSE(surely_below(std::vector<double>(2, -1.0), 512, 3.0));
  CHECK(surely_below(std::vector<double>(2, -1.0), 2, 3.0));  // nothing is left to see
  differences[1] = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(surely_below(differences, 64, 3.0));
}

// Under equal means a candidate is dropped as often as a normal deviate falls below -errors, at most: 1/740
// at 3.
TEST_CASE("a race seldom drops a candidate that is as good") {
  int64_t dropped = 0;
  constexpr int64_t kTries = 20000;
  for (uint32_t trial = 0; trial < kTries; ++trial) {
    std::vector<double> differences;
    for (uint32_t i = 0; i < 64; ++i) {
      const double u = random_uniform({5, Purpose::kFlag, trial, 0, 0, i, 0});
      differences.push_back(u < 0.2 ? -1.0 : (u < 0.4 ? 1.0 : 0.0));
    }
    dropped += surely_below(differences, 1 << 20, 3.0);
  }
  CHECK(dropped <= 2 * kTries / 740);
}

TEST_CASE("a race finds the planted genome as the whole search does, and sees fewer items") {
  for (const std::string_view name : {"eep", "genetic", "hill_climb", "level_switch", "coordinate"}) {
    CAPTURE(name);
    int32_t whole_found = 0, raced_found = 0;
    int64_t whole_seen = 0, raced_seen = 0;
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      for (const bool races : {false, true}) {
        RacedProblem problem(seed);
        Search search(problem.space, config_of(name, seed, races));
        const SearchResult result = search.run(problem.evaluator());
        (races ? raced_found : whole_found) += problem.hits(search.archive()[result.best].genome) == 16;
        (races ? raced_seen : whole_seen) += problem.seen;
        CHECK(search.archive().size() == 600);
        for (const int64_t leader : search.leaders(4, true)) CHECK(search.archive()[leader].on_all_items());
      }
    }
    CHECK(raced_found >= whole_found - 1);
    CHECK(static_cast<double>(raced_seen) < 0.85 * static_cast<double>(whole_seen));
  }
}

TEST_CASE("whoever is not dropped has the result of all items, and the archive says who was") {
  RacedProblem problem(1);
  Search search(problem.space, config_of("eep", 1, true));
  search.run(problem.evaluator());
  int64_t dropped = 0;
  for (const ArchiveEntry& entry : search.archive().entries()) {
    const std::string line = archive_line(entry, search.archive().fitness_kind());
    CHECK((line.find("\"dropped\": true") != std::string::npos) == entry.dropped);
    CHECK(entry.result.items.empty());
    if (entry.dropped) {
      ++dropped;
      CHECK((entry.result.n == 32 || entry.result.n == 64 || entry.result.n == 128 || entry.result.n == 256));
      continue;
    }
    const Evaluation whole = problem.evaluate(entry.genome, {});
    CHECK(entry.result.n == kItems);
    CHECK(entry.result.fitness == whole.fitness);
  }
  CHECK(dropped > 100);
}

TEST_CASE("a race resumes at every generation to the same bytes") {
  for (const std::string_view name :
       {"eep", "eep_released", "genetic", "hill_climb", "level_switch", "coordinate", "random"}) {
    CAPTURE(name);
    RacedProblem problem(2);
    SearchConfig config = config_of(name, 2, true);
    config.prune.evaluations = 300;
    config.merge.evaluations = config.merge.algorithm == name ? 60 : 0;
    Search whole(problem.space, config);
    std::vector<std::string> states;
    whole.run(problem.evaluator(), [&](const SearchProgress&) { states.push_back(whole.state()); });
    for (const std::string& state : states) {
      Search resumed(problem.space, config, {}, state, "checkpoint");
      CHECK(resumed.state() == state);
      resumed.run(problem.evaluator());
      CHECK(resumed.state() == whole.state());
      CHECK(test::archive_text(resumed) == test::archive_text(whole));
    }
    SearchConfig other = config;
    other.racing.errors = 2.0;
    CHECK_THROWS_AS(Search(problem.space, other, {}, states[0], "checkpoint"), Error);
  }
}

TEST_CASE("leaders are the best different genomes") {
  RacedProblem problem(3);
  SearchConfig config = config_of("eep", 3, false);
  config.population = 7;
  config.prune.evaluations = 200;
  Search search(problem.space, config);
  Leaders leaders(9);
  search.run(problem.evaluator(), [&](const SearchProgress& progress) {
    for (int64_t i = progress.first; i < progress.end; ++i) leaders.add(search.archive(), i);
    CHECK(leaders.best() == search.archive().best_unique(0, search.archive().size(), 9));
  });
}

TEST_CASE("racing is refused where it cannot compare") {
  const GenomeSpace counts = test::make_counts_space(8, 4, 16, 1, 7);
  SearchConfig config = config_of("genetic", 1, true);
  config.objectives.parameters = true;
  CHECK_THROWS_AS(Search(counts, config), Error);
  config.objectives.parameters = false;
  config.racing.first = 1;
  CHECK_THROWS_AS(Search(counts, config), Error);
  config.racing.first = 32;
  config.racing.errors = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(Search(counts, config), Error);
  // An evaluator that knows no single items.
  config.racing.errors = 3.0;
  Search search(counts, config);
  CHECK_THROWS_AS(search.run(test::hashed_evaluator(8)), Error);
}
