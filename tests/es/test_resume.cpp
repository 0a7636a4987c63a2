// Stopping anywhere between generations and going on gives the same archive, byte for byte.
#include <doctest/doctest.h>
#include <xxhash.h>

#include <stdexcept>

#include "es/bytes.h"
#include "es/search.h"
#include "es/search_state.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::archive_text;
using eep::test::hashed_evaluator;
using eep::test::make_space;

namespace {

SearchConfig config_of(const std::string& algorithm, int32_t population) {
  SearchConfig config{.fitness = FitnessKind::kMetricThenLoglik};
  config.population = population;
  test::set_algorithm(&config, algorithm);
  config.prune.evaluations = 45;
  config.merge.evaluations = 60;
  return config;
}

std::vector<WarmStart> starts(const GenomeSpace& space) {
  std::vector<int32_t> first(static_cast<size_t>(space.kept[0]));
  for (size_t i = 0; i < first.size(); ++i) first[i] = static_cast<int32_t>(i);
  Genome one_hot = one_hot_genome(space, std::vector<std::vector<int32_t>>(space.kept.size(), first));
  Genome dense = one_hot;
  for (GroupGenes& group : dense.groups) group.w_rm[1] = -0.25f;
  return {{"frequency", one_hot}, {"dense", dense}};
}

}  // namespace

TEST_CASE("every algorithm resumes at every generation to the same bytes") {
  for (const int32_t kept : {4, 8}) {
    const GenomeSpace space = make_space(8, {kept, kept});
    for (const std::string_view name : algorithm_names(Phase::kPrune)) {
      for (const int32_t population : {1, 7, 32}) {
        CAPTURE(kept);
        CAPTURE(name);
        CAPTURE(population);
        const SearchConfig config = config_of(std::string(name), population);
        std::vector<std::string> states;
        Search whole(space, config, starts(space));
        states.push_back(whole.state());
        whole.run(hashed_evaluator(8), [&](const SearchProgress&) { states.push_back(whole.state()); });
        const std::string reference = archive_text(whole);
        for (size_t at = 0; at < states.size(); ++at) {
          CAPTURE(at);
          Search resumed(space, config, starts(space), states[at], "checkpoint");
          CHECK(resumed.state() == states[at]);
          resumed.run(hashed_evaluator(8));
          CHECK(archive_text(resumed) == reference);
          CHECK(resumed.result().best == whole.result().best);
          CHECK(resumed.result().prune_best == whole.result().prune_best);
          CHECK(resumed.leaders(7, true) == whole.leaders(7, true));
        }
      }
    }
  }
}

TEST_CASE("algorithms that vary kept counts resume at every generation to the same bytes") {
  const GenomeSpace space = test::make_counts_space(8, 3, 13, 2, 7);
  for (const AlgorithmRow& row : algorithms()) {
    if (!row.counts) continue;
    CAPTURE(row.name);
    const SearchConfig config = config_of(std::string(row.name), 7);
    std::vector<std::string> states;
    Search whole(space, config);
    whole.run(hashed_evaluator(8), [&](const SearchProgress&) { states.push_back(whole.state()); });
    for (const std::string& state : states) {
      Search resumed(space, config, {}, state, "checkpoint");
      resumed.run(hashed_evaluator(8));
      CHECK(archive_text(resumed) == archive_text(whole));
      CHECK(resumed.state() == whole.state());
    }
    GenomeSpace other = space;
    other.most = 6;
    CHECK_THROWS_AS(Search(other, config, {}, states[0], "checkpoint"), Error);
  }
}

TEST_CASE("a state is its head and what every generation adds") {
  const GenomeSpace space = make_space(8, {4, 4});
  Search search(space, config_of("eep", 8));
  std::string appended = search.state();
  search.run(hashed_evaluator(8), [&](const SearchProgress& progress) {
    appended += search.state_of(progress.first, progress.end);
    CHECK(appended == search.state());
  });
}

TEST_CASE("checkpoints of earlier versions are read") {
  const GenomeSpace space = make_space(8, {4});
  SearchConfig config = config_of("eep", 4);
  Search search(space, config);
  for (int i = 0; i < 4; ++i) search.step(hashed_evaluator(8));
  std::string old("eep-search\n");
  put(uint32_t{1}, old);
  put(search_fingerprint(space, search.config(), {}), old);
  put(static_cast<uint64_t>(search.archive().size()), old);
  for (const ArchiveEntry& entry : search.archive().entries()) {
    put(static_cast<uint8_t>(entry.phase), old);
    put(entry.generation, old);
    put(static_cast<uint16_t>(entry.origin.size()), old);
    old += entry.origin;
    write_genome(space, entry.genome, old);
    put(entry.result.fitness, old);
    put(entry.result.tiebreak, old);
    put(entry.result.n, old);
    put(static_cast<uint8_t>(entry.cached), old);
  }
  put(static_cast<uint64_t>(XXH3_64bits(old.data(), old.size())), old);
  CHECK(whole_generations(old) == old);
  const Search resumed(space, config, {}, old, "checkpoint");
  CHECK(resumed.state() == search.state());
}

TEST_CASE("a stop is obeyed between generations") {
  const GenomeSpace space = make_space(8, {4, 4});
  std::atomic<bool> stop{false};
  Search search(space, config_of("eep", 8));
  const SearchResult result = search.run(
      hashed_evaluator(8), [&](const SearchProgress& progress) { stop = progress.generation == 4; }, &stop);
  CHECK_FALSE(result.finished);
  CHECK(search.archive()[search.archive().size() - 1].generation == 4);
  stop = false;
  CHECK(search.run(hashed_evaluator(8), {}, &stop).finished);
  Search whole(space, config_of("eep", 8));
  whole.run(hashed_evaluator(8));
  CHECK(archive_text(search) == archive_text(whole));
}

TEST_CASE("an evaluation that throws leaves the search where it was") {
  const GenomeSpace space = make_space(8, {4, 4});
  Search search(space, config_of("eep", 8));
  int calls = 0;
  const Evaluate failing = [&](std::span<const Genome> genomes) {
    if (++calls % 3 == 0) throw std::runtime_error("interrupted");
    return hashed_evaluator(8)(genomes);
  };
  while (!search.done()) {
    const std::string before = search.state();
    try {
      search.run(failing);
    } catch (const std::runtime_error&) {
      if (calls == 3) CHECK(search.state() != before);
    }
  }
  Search whole(space, config_of("eep", 8));
  whole.run(hashed_evaluator(8));
  CHECK(archive_text(search) == archive_text(whole));
}

TEST_CASE("a checkpoint of another search is refused") {
  const GenomeSpace space = make_space(8, {4, 4});
  const SearchConfig config = config_of("eep", 8);
  Search search(space, config, starts(space));
  search.step(hashed_evaluator(8));
  const std::string state = search.state();
  const auto refused = [&](const GenomeSpace& other_space, const SearchConfig& other, bool with_starts) {
    try {
      Search resumed(other_space, other, with_starts ? starts(other_space) : std::vector<WarmStart>{}, state,
                     "checkpoint");
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kConfig);
    }
  };
  refused(make_space(8, {4, 3}), config, true);
  refused(space, config, false);
  SearchConfig other = config;
  other.seed = 2;
  refused(space, other, true);
  other = config;
  other.merge.parameters.sigma = 0.05;
  refused(space, other, true);
  other = config;
  other.prune.parameters.parent_rule = ParentRule::kRanking;
  refused(space, other, true);
  other = config;
  other.merge.evaluations = 61;
  refused(space, other, true);
  GenomeSpace wider = space;
  wider.layers[0].push_back(9);
  refused(wider, config, true);
}

TEST_CASE("damaged checkpoints are an error") {
  const GenomeSpace space = make_space(8, {4});
  SearchConfig config = config_of("eep", 4);
  config.prune.evaluations = 36;
  config.merge.evaluations = 4;
  Search search(space, config);
  search.run(hashed_evaluator(8));
  const std::string state = search.state();
  const auto code_of = [&](const std::string& bytes) {
    try {
      Search resumed(space, config, {}, bytes, "checkpoint");
      return ExitCode::kOk;
    } catch (const Error& error) {
      return error.code();
    }
  };
  CHECK(code_of(state) == ExitCode::kOk);
  // A state that ends with a generation is that of a search that had come so far.
  int64_t shorter = 0;
  for (size_t length = 0; length < state.size(); ++length) {
    const std::string front = state.substr(0, length);
    const bool whole = length > 30 && whole_generations(front).size() == length;
    shorter += whole;
    CHECK(code_of(front) == (whole ? ExitCode::kOk : ExitCode::kData));
    if (length > 30) CHECK(code_of(std::string(whole_generations(front))) == ExitCode::kOk);
  }
  CHECK(shorter == search.archive()[search.archive().size() - 1].generation + 1);
  CHECK(code_of(state + "x") == ExitCode::kData);
  const std::string body = state.substr(0, state.size() - 8);
  for (size_t at = 0; at < state.size(); ++at) {
    std::string other = state;
    other[at] = static_cast<char>(other[at] ^ 0x11);
    CHECK(code_of(other) == ExitCode::kData);
    if (at >= body.size()) continue;
    // With a checksum that fits, the reader alone must stand.
    std::string sealed = body;
    sealed[at] = static_cast<char>(sealed[at] ^ 0x11);
    put(static_cast<uint64_t>(XXH3_64bits(sealed.data(), sealed.size())), sealed);
    code_of(sealed);
  }
}

TEST_CASE("a checkpoint of the first version still belongs to its search") {
  const GenomeSpace space = make_space(8, {4, 4, 4});
  const auto fingerprint = [&](FitnessKind kind) {
    SearchConfig config{.fitness = kind};
    config.merge.algorithm = "hill_climb";
    config.merge.parameters.sigma = 0.07;
    config.prune.parameters.initial = 7;
    config.prune.parameters.crossover_rank = 9;
    config.prune.parameters.mutation_rank = 11;
    return search_fingerprint(space, resolved(config), {});
  };
  CHECK(fingerprint(FitnessKind::kMetric) == 17597095926178481686u);
  CHECK(fingerprint(FitnessKind::kMetricThenLoglik) == 2395476694825296433u);
  CHECK(fingerprint(FitnessKind::kLoglik) == 13096659818621030510u);
}
