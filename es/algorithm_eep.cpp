// eep: the released search with correct layer groups. Random one-hot genomes first; then children of members
// near the best, by discrete mutation while pruning, by crossover and Gaussian mutation while merging. All
// members stay parents. A population of 1 is the official steady state; a larger one is made from one
// archive.
#include "es/algorithms.h"
#include "es/breed.h"

namespace eep {
namespace {

class Eep final : public Algorithm {
 public:
  explicit Eep(const OperatorParameters& parameters) : parameters_(parameters) {}

  void begin(PhaseSetting setting) override { phase_ = setting.phase; }

  std::optional<int64_t> last_parent(const Archive& archive) const override {
    return eep::last_parent(archive, phase_, parameters_);
  }

  std::vector<Candidate> ask(const AskContext& context) const override {
    const int64_t initial = context.phase == Phase::kPrune ? parameters_.initial : 0;
    std::vector<Candidate> candidates = initial_candidates(context, initial, /*distinct=*/true);
    if (!candidates.empty()) return candidates;
    const Ranking ranking(context.archive);
    for (int32_t i = 0; i < context.count; ++i) {
      const Child child{context.seed, context.generation, static_cast<uint32_t>(i)};
      const Parents parents = select_parents(ranking, context.phase, parameters_, child);
      const std::vector<GroupFlags> flags =
          draw_flags(context.space.groups(), parameters_.flag_probability, /*at_least_one=*/true, child);
      const Genome& first = context.archive[parents.first].genome;
      const Genome* second = parents.second < 0 ? nullptr : &context.archive[parents.second].genome;
      if (second != nullptr && !same_shape(first, *second)) second = nullptr;
      candidates.push_back(
          {vary(first, second, context.space.experts, context.phase, flags, parameters_, child),
           second == nullptr ? "mutation" : "crossover"});
    }
    return candidates;
  }

 private:
  OperatorParameters parameters_;
  Phase phase_ = Phase::kPrune;
};

}  // namespace

AlgorithmRow eep_algorithm() {
  return operator_algorithm<Eep>("eep", "the released search with correct layer groups");
}

}  // namespace eep
