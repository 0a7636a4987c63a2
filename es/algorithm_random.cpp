// random: the control without inheritance. Pruning: uniform one-hot genomes. Merging: independent Gaussian
// mutations of the best genome that the phase started from.
#include <limits>

#include "es/algorithms.h"
#include "es/breed.h"

namespace eep {
namespace {

class RandomSearch final : public Algorithm {
 public:
  explicit RandomSearch(const OperatorParameters& parameters) : parameters_(parameters) {}

  std::vector<Candidate> ask(const AskContext& context) const override {
    const int64_t initial = context.phase == Phase::kPrune ? std::numeric_limits<int64_t>::max() : 0;
    std::vector<Candidate> candidates = initial_candidates(context, initial, /*distinct=*/true);
    if (!candidates.empty()) return candidates;
    const int64_t base =
        context.archive.best(0, context.phase_begin + static_cast<int64_t>(context.starts.size()));
    for (int32_t i = 0; i < context.count; ++i) {
      const Child child{context.seed, context.generation, static_cast<uint32_t>(i)};
      const std::vector<GroupFlags> flags =
          draw_flags(context.space.groups(), parameters_.flag_probability, /*at_least_one=*/true, child);
      candidates.push_back({vary(context.archive[base].genome, nullptr, context.space.experts, context.phase,
                                 flags, parameters_, child),
                            "mutation"});
    }
    return candidates;
  }

  std::optional<int64_t> last_parent(const Archive& archive) const override { return archive.best(); }

 private:
  OperatorParameters parameters_;
};

}  // namespace

AlgorithmRow random_algorithm() {
  return operator_algorithm<RandomSearch>(
      "random", "uniform subsets; while merging, independent mutations of the best start");
}

}  // namespace eep
