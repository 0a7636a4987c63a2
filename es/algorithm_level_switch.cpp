// level_switch: (1 + population) over kept counts and kept experts (EvoPress: Sieberling et al. 2024). The
// incumbent is the best genome so far; a child moves experts from some groups to others under the fixed
// total, or swaps experts within groups. Where counts do not vary it swaps alone.
#include <algorithm>
#include <utility>

#include "es/algorithms.h"
#include "es/kept_sets.h"
#include "es/random.h"

namespace eep {
namespace {

struct LevelSwitchParameters {
  int32_t initial = 8;    // random one-hot genomes at the start, with even counts
  int32_t most = 3;       // moves of a child: the lesser of two draws of 1..most
  double switches = 0.5;  // probability that a move is a level switch, where counts vary; else a swap

  bool operator==(const LevelSwitchParameters&) const = default;
};

void visit(ParameterVisitor& v, LevelSwitchParameters& p) {
  v.integer("initial", p.initial, 1, 1000000);
  v.integer("most", p.most, 1, 1000);
  v.number("switches", p.switches, 0, 1);
}

class LevelSwitch final : public Algorithm {
 public:
  explicit LevelSwitch(const LevelSwitchParameters& parameters) : parameters_(parameters) {}

  std::vector<Candidate> ask(const AskContext& context) const override {
    std::vector<Candidate> candidates = initial_candidates(context, parameters_.initial, /*distinct=*/true);
    if (!candidates.empty()) return candidates;
    const Genome& best = context.archive[incumbent_].genome;
    const KeptSets incumbent = kept_sets(best, context.space.experts);
    for (int32_t i = 0; i < context.count; ++i) {
      const Child child{context.seed, context.generation, static_cast<uint32_t>(i)};
      candidates.push_back(make_child(context.space, incumbent, best.top_k, child));
    }
    return candidates;
  }

  void tell(const Archive& archive, int64_t begin, int64_t end) override {
    const int64_t best = archive.best(begin, end);
    if (best < 0) return;  // all of them dropped
    if (incumbent_ < 0 || archive.compare(archive[best].result, archive[incumbent_].result) >= 0)
      incumbent_ = best;
  }

  std::optional<int64_t> last_parent(const Archive& /*archive*/) const override {
    return incumbent_ < 0 ? std::nullopt : std::optional(incumbent_);
  }

 private:
  Candidate make_child(const GenomeSpace& space, const KeptSets& incumbent, int32_t active,
                       const Child& child) const {
    const auto below = [&](uint32_t row, uint32_t column, size_t n) {
      return random_below({child.seed, Purpose::kMove, child.generation, child.individual, 0, row, column},
                          n);
    };
    const auto most = static_cast<size_t>(parameters_.most);
    const uint64_t moves = 1 + std::min(below(0, 0, most), below(0, 1, most));
    KeptSets sets = incumbent;
    int32_t top_k = active;
    bool switched = false;
    for (uint32_t move = 1; move <= moves; ++move) {
      const double kind =
          random_uniform({child.seed, Purpose::kMove, child.generation, child.individual, 0, move, 2});
      if (space.top_k_varies() && below(move, 4, 4) == 0) {  // one move in four
        top_k = next_top_k(space, top_k, child, move);
      } else if (space.counts_vary() && kind < parameters_.switches) {
        switch_level(space, &sets, child, move);
        switched = true;
      } else {
        const auto group = static_cast<int32_t>(below(move, 3, sets.size()));
        swap_expert(&sets, group, space.experts, child, 2 * move);
      }
    }
    Genome genome = one_hot_genome(space, sets);
    genome.top_k = top_k;
    return {std::move(genome), switched ? "switch" : "swap"};
  }

  LevelSwitchParameters parameters_;
  int64_t incumbent_ = -1;
};

}  // namespace

AlgorithmRow level_switch_algorithm() {
  AlgorithmRow row = own_algorithm<LevelSwitch, LevelSwitchParameters>(
      "level_switch", "experts move between layers under a fixed total, or are swapped within one", true,
      false);
  row.counts = true;
  return row;
}

}  // namespace eep
