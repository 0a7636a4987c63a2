// algorithm: the ask/tell interface of search algorithms. An algorithm's state is a function of the archive
// and of addressed randomness: a resume replays tell() over the stored archive and goes on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "es/archive.h"
#include "es/genome.h"
#include "es/operators.h"
#include "es/parameters.h"
#include "es/search_config.h"

namespace eep {

struct Candidate {
  Genome genome;
  std::string origin;
};

// What an algorithm may know of its phase from the beginning.
struct PhaseSetting {
  GenomeSpace space;
  Phase phase = Phase::kPrune;
  int64_t phase_begin = 0;        // first evaluation of this phase
  int64_t evaluations = 0;        // of this phase
  std::vector<Candidate> starts;  // given first candidates of this phase, in order
  uint64_t seed = 0;
  int64_t shard = 0;        // items of a generation, as a rule; 0: every generation sees the same ones
  int64_t train_items = 0;  // in the stream of fresh items
  Objectives objectives{};
};

// How an algorithm wants to be asked.
struct AlgorithmNeeds {
  bool own_generations = false;  // generations of a size of its own, not of the search's population
  bool fresh_items = false;      // compares candidates of one generation alone
  bool decisions = false;        // reads Evaluation::decisions
  bool all_decisions = false;    // those of all its generations, when it is told again
};

struct AskContext {
  const GenomeSpace& space;
  const Archive& archive;
  Phase phase = Phase::kPrune;
  int64_t phase_begin = 0;            // first evaluation of this phase
  std::span<const Candidate> starts;  // given first candidates of this phase, in order
  uint64_t seed = 0;
  uint32_t generation = 0;  // counts over both phases
  int32_t count = 1;        // candidates wanted
};

class Algorithm {
 public:
  virtual ~Algorithm() = default;
  // Called once, before all others.
  virtual void begin(PhaseSetting /*setting*/) {}
  virtual AlgorithmNeeds needs() const { return {}; }
  // Items of the next generation, where they are fresh: 1 to setting.train_items.
  virtual int64_t shard(const Archive& /*archive*/) const { return 0; }
  // 1 to context.count candidates, all made from the same archive.
  virtual std::vector<Candidate> ask(const AskContext& context) const = 0;
  // Evaluations [begin, end) of the archive, one generation, have arrived.
  virtual void tell(const Archive& /*archive*/, int64_t /*begin*/, int64_t /*end*/) {}
  // The worst evaluation that may still become a parent: what is surely below it need not be looked at
  // further (es/racing.h). None: everything counts, so nothing may be dropped.
  virtual std::optional<int64_t> last_parent(const Archive& /*archive*/) const { return std::nullopt; }
  // The evaluation that it hands over as its result (the mean of a distribution); -1: the archive's best.
  virtual int64_t result() const { return -1; }
};

// A row of the table of algorithms (es/algorithms.h).
struct AlgorithmRow {
  std::string_view name;
  std::string_view words;  // what it does, for help and documents
  bool prunes = true;      // can search the phase
  bool merges = true;
  Parameters own;  // its own parameters at their defaults; empty: it has those of the operators alone
  std::unique_ptr<Algorithm> (*make)(const OperatorParameters& operators, const Parameters& own) = nullptr;
  bool counts = false;      // varies kept counts and top_k where the space lets it
  bool objectives = false;  // looks for several
};

// The row of an algorithm that EEP's operators alone steer: T(const OperatorParameters&).
template <typename T>
AlgorithmRow operator_algorithm(std::string_view name, std::string_view words) {
  return {name, words, true, true, Parameters(), [](const OperatorParameters& operators, const Parameters&) {
            return std::unique_ptr<Algorithm>(std::make_unique<T>(operators));
          }};
}
// The row of one with parameters of its own: T(const P&). In the experiment file they are a section of its
// name: `search.merge: {algorithm: NAME, NAME: {...}}`.
template <typename T, typename P>
AlgorithmRow own_algorithm(std::string_view name, std::string_view words, bool prunes, bool merges) {
  return {
      name, words, prunes, merges, Parameters::of(P{}), [](const OperatorParameters&, const Parameters& own) {
        return std::unique_ptr<Algorithm>(std::make_unique<T>(own.as<P>()));
      }};
}

std::vector<std::string_view> algorithm_names();
// Those that can search the phase.
std::vector<std::string_view> algorithm_names(Phase phase);
// Throw Error(kConfig) naming the known ones where it is none of those that can search the phase.
const AlgorithmRow& find_algorithm(const PhaseConfig& config, Phase phase);
std::unique_ptr<Algorithm> make_algorithm(const PhaseConfig& config, Phase phase);

// For algorithms: what is left of the phase's first candidates, at most context.count of them: first
// context.starts, then random one-hot genomes up to `initial` in all, redrawn while equal to an earlier one
// if `distinct` (as long as the space has unseen ones). Empty when the phase is past them.
std::vector<Candidate> initial_candidates(const AskContext& context, int64_t initial, bool distinct);

}  // namespace eep
