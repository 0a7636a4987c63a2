// distribution: what algorithms share that sample coefficients around a mean. They begin at the last dense
// start, or at the prune phase's best; their generations spend the budget exactly; samples of one generation
// are ranked by mean log-likelihood on the same items; the mean is evaluated last and handed over. The state
// is made again from the archive: samples have addresses, and their ranks are in the archive.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/algorithm.h"

namespace eep {

class Distribution : public Algorithm {
 public:
  AlgorithmNeeds needs() const final { return {true, true, false}; }
  void begin(PhaseSetting setting) final;
  int64_t shard(const Archive& /*archive*/) const final { return setting_.shard; }
  std::vector<Candidate> ask(const AskContext& context) const final;
  void tell(const Archive& archive, int64_t begin, int64_t end) final;
  int64_t result() const final { return result_; }

 protected:
  // Called once, before the others. shape: the genome whose coefficients `mean` are.
  virtual void start(const Genome& shape, std::vector<double> mean) = 0;
  virtual const std::vector<double>& mean() const = 0;  // [d]
  // Of a generation as a rule, a multiple of unit(); what is left is spread evenly.
  virtual int64_t samples() const = 0;
  virtual int64_t unit() const { return 1; }
  // Samples [count, d] of a generation.
  virtual std::vector<double> draw(uint32_t generation, int64_t count) const = 0;
  // The values of these samples, [count], the larger the better; NaN is the worst. `done` of the phase's
  // `all` evaluations came before them.
  virtual void update(uint32_t generation, std::span<const double> value, int64_t done, int64_t all) = 0;

  // Standard normal [count, d] of the addresses (seed, kSample, generation, 0..count-1, coordinate); valid
  // until the next call.
  const std::vector<double>& normals(uint32_t generation, int64_t count) const;
  const GenomeSpace& space() const { return setting_.space; }

 private:
  void start_at(const Genome& genome);

  PhaseSetting setting_;
  Genome shape_;  // no groups before the phase
  int64_t result_ = -1;
  mutable std::vector<double> normals_;  // a cache of the last call
  mutable uint32_t normals_generation_ = 0;
};

// Places in `value` from the best to the worst: NaN last, equal ones in their order.
std::vector<size_t> best_first(std::span<const double> value);

}  // namespace eep
