// eep_released: what the released search really optimises, its group names matching no layer: one W_EM and
// one W_RM for all layers. Each of the two live matrices is flagged with flag_probability and not drawn again
// when neither is (dead matrices satisfy "at least one" there); equal initial genomes are not redrawn.
// Otherwise as eep. Of a parent the first group is read; starts whose groups differ cannot be expressed and
// are left out.
#include <algorithm>

#include "es/algorithms.h"
#include "es/breed.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

Genome first_group(const Genome& genome) { return {{genome.groups.front()}}; }

Genome shared(const Genome& pair, int32_t groups) {
  return {std::vector<GroupGenes>(static_cast<size_t>(groups), pair.groups.front())};
}

class EepReleased final : public Algorithm {
 public:
  explicit EepReleased(const OperatorParameters& parameters) : parameters_(parameters) {}

  void begin(PhaseSetting setting) override { phase_ = setting.phase; }

  std::optional<int64_t> last_parent(const Archive& archive) const override {
    return eep::last_parent(archive, phase_, parameters_);
  }

  std::vector<Candidate> ask(const AskContext& context) const override {
    const GenomeSpace& space = context.space;
    if (space.counts_vary() || space.top_k_varies() ||
        std::any_of(space.kept.begin(), space.kept.end(),
                    [&](int32_t kept) { return kept != space.kept[0]; })) {
      throw Error(
          ExitCode::kConfig, "search",
          "eep_released shares one pair of matrices" + expected_got("one number of kept experts", "several"));
    }
    GenomeSpace pair = space;
    pair.kept.resize(1);
    pair.layers.resize(1);
    std::vector<Candidate> starts;
    for (const Candidate& start : context.starts) {
      if (start.genome == shared(start.genome, space.groups())) {
        starts.push_back({first_group(start.genome), start.origin});
      }
    }
    const AskContext one{pair,   context.archive, context.phase,      context.phase_begin,
                         starts, context.seed,    context.generation, context.count};

    const int64_t initial = context.phase == Phase::kPrune ? parameters_.initial : 0;
    std::vector<Candidate> candidates = initial_candidates(one, initial, /*distinct=*/false);
    if (candidates.empty()) {
      const Ranking ranking(context.archive);
      for (int32_t i = 0; i < context.count; ++i) {
        candidates.push_back(make_child(one, ranking, static_cast<uint32_t>(i)));
      }
    }
    for (Candidate& candidate : candidates) candidate.genome = shared(candidate.genome, space.groups());
    return candidates;
  }

 private:
  Candidate make_child(const AskContext& one, const Ranking& ranking, uint32_t individual) const {
    const Child child{one.seed, one.generation, individual};
    const Parents parents = select_parents(ranking, one.phase, parameters_, child);
    const std::vector<GroupFlags> flags =
        draw_flags(1, parameters_.flag_probability, /*at_least_one=*/false, child);
    const Genome first = first_group(one.archive[parents.first].genome);
    if (parents.second < 0) {
      return {vary(first, nullptr, one.space.experts, one.phase, flags, parameters_, child), "mutation"};
    }
    const Genome second = first_group(one.archive[parents.second].genome);
    return {vary(first, &second, one.space.experts, one.phase, flags, parameters_, child), "crossover"};
  }

  OperatorParameters parameters_;
  Phase phase_ = Phase::kPrune;
};

}  // namespace

AlgorithmRow eep_released_algorithm() {
  return operator_algorithm<EepReleased>(
      "eep_released", "what the released search really does: one pair of matrices for all layers");
}

}  // namespace eep
