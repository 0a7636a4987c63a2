// hill_climb: (1 + population) with EEP's operators. The incumbent is the best start (one random genome if
// there is none); each generation's best child takes its place if it is not worse. No crossover.
#include "es/algorithms.h"
#include "es/breed.h"

namespace eep {
namespace {

class HillClimb final : public Algorithm {
 public:
  explicit HillClimb(const OperatorParameters& parameters) : parameters_(parameters) {}

  std::vector<Candidate> ask(const AskContext& context) const override {
    const int64_t initial = context.phase == Phase::kPrune ? 1 : 0;
    std::vector<Candidate> candidates = initial_candidates(context, initial, /*distinct=*/true);
    if (!candidates.empty()) return candidates;
    for (int32_t i = 0; i < context.count; ++i) {
      const Child child{context.seed, context.generation, static_cast<uint32_t>(i)};
      const std::vector<GroupFlags> flags =
          draw_flags(context.space.groups(), parameters_.flag_probability, /*at_least_one=*/true, child);
      candidates.push_back({vary(context.archive[incumbent_].genome, nullptr, context.space.experts,
                                 context.phase, flags, parameters_, child),
                            "mutation"});
    }
    return candidates;
  }

  void tell(const Archive& archive, int64_t begin, int64_t end) override {
    const int64_t best = archive.best(begin, end);
    if (best < 0) return;  // all of them dropped
    if (incumbent_ < 0 || archive.compare(archive[best].result, archive[incumbent_].result) >= 0) {
      incumbent_ = best;
    }
  }

  std::optional<int64_t> last_parent(const Archive& /*archive*/) const override {
    return incumbent_ < 0 ? std::nullopt : std::optional(incumbent_);
  }

 private:
  OperatorParameters parameters_;
  int64_t incumbent_ = -1;
};

}  // namespace

AlgorithmRow hill_climb_algorithm() {
  return operator_algorithm<HillClimb>("hill_climb", "the best genome so far, and mutations of it alone");
}

}  // namespace eep
