// algorithm: the ask/tell interface of search algorithms. An algorithm's state is a function of the archive
// and of addressed randomness: a resume replays tell() over the stored archive and goes on.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "es/archive.h"
#include "es/genome.h"
#include "es/operators.h"

namespace eep {

struct Candidate {
  Genome genome;
  std::string origin;
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
  // 1 to context.count candidates, all made from the same archive.
  virtual std::vector<Candidate> ask(const AskContext& context) const = 0;
  // Evaluations [begin, end) of the archive, one generation, have arrived.
  virtual void tell(const Archive& /*archive*/, int64_t /*begin*/, int64_t /*end*/) {}
};

// Throws Error(kConfig) naming the known ones.
std::unique_ptr<Algorithm> make_algorithm(const std::string& name, const OperatorParameters& parameters);
// eep, eep_released, hill_climb, random.
std::span<const std::string_view> algorithm_names();

// For algorithms: what is left of the phase's first candidates, at most context.count of them: first
// context.starts, then random one-hot genomes up to `initial` in all, redrawn while equal to an earlier one
// if `distinct` (as long as the space has unseen ones). Empty when the phase is past them.
std::vector<Candidate> initial_candidates(const AskContext& context, int64_t initial, bool distinct);

}  // namespace eep
