// genetic: tournaments among the best different genomes of the archive. Pruning: what both parents keep
// stays, the rest is drawn from what one of them keeps, then swaps of single experts (and where counts vary a
// level switch). Merging: rows of both matrices from either parent, then Gaussian noise on a few.
#include <algorithm>
#include <utility>

#include "es/algorithms.h"
#include "es/kept_sets.h"
#include "es/pareto.h"
#include "es/racing.h"
#include "es/random.h"

namespace eep {
namespace {

struct GeneticParameters {
  int32_t initial = 32;               // random one-hot genomes at the start
  int32_t survivors = 24;             // the best different genomes, from which parents are drawn
  int32_t tournament = 2;             // the best of so many drawn ones is a parent
  double crossover = 0.7;             // probability of a second parent
  double swaps = 1.0;                 // expected swaps of a child, over all groups
  double switches = 0.5;              // probability of a level switch, where counts vary
  double flag_probability = 0.25;     // merging: a matrix gets noise
  double element_probability = 0.25;  // an element of it
  double sigma = 0.065;

  bool operator==(const GeneticParameters&) const = default;
};

void visit(ParameterVisitor& v, GeneticParameters& p) {
  v.integer("initial", p.initial, 1, 1000000);
  v.integer("survivors", p.survivors, 1, 100000);
  v.integer("tournament", p.tournament, 1, 10000);
  v.number("crossover", p.crossover, 0, 1);
  v.number("swaps", p.swaps, 0, 1000);
  v.number("switches", p.switches, 0, 1);
  v.number("flag_probability", p.flag_probability, 0.001, 1);
  v.number("element_probability", p.element_probability, 0, 1);
  v.number("sigma", p.sigma, 0, 10);
}

class Genetic final : public Algorithm {
 public:
  explicit Genetic(const GeneticParameters& parameters)
      : parameters_(parameters), leaders_(parameters.survivors) {}

  void begin(PhaseSetting setting) override { setting_ = std::move(setting); }

  // With several objectives the survivors are those of the last generation's survivors and its children.
  void tell(const Archive& archive, int64_t begin, int64_t end) override {
    if (!setting_.objectives.several()) {
      for (int64_t i = begin; i < end; ++i) leaders_.add(archive, i);
      return;
    }
    for (int64_t i = begin; i < end; ++i) {
      if (archive[i].shard < 0) survivors_.push_back(i);
    }
    survivors_ = pareto_best(archive, setting_.space, setting_.objectives, survivors_, parameters_.survivors);
  }

  std::vector<Candidate> ask(const AskContext& context) const override {
    const int64_t initial = context.phase == Phase::kPrune ? parameters_.initial : 0;
    std::vector<Candidate> candidates = initial_candidates(context, initial, /*distinct=*/true);
    for (size_t i = 0; i < candidates.size(); ++i) spread(context, static_cast<uint32_t>(i), &candidates[i]);
    if (!candidates.empty()) return candidates;
    const std::vector<int64_t>& survivors = setting_.objectives.several() ? survivors_ : leaders_.best();
    for (int32_t i = 0; i < context.count; ++i) {
      const Child child{context.seed, context.generation, static_cast<uint32_t>(i)};
      const Genome& first = context.archive[survivors[parent(survivors.size(), child, 0)]].genome;
      const Genome* second = nullptr;
      if (random_uniform({child.seed, Purpose::kUseCrossover, child.generation, child.individual}) <
          parameters_.crossover) {
        second = &context.archive[survivors[parent(survivors.size(), child, 1)]].genome;
        if (second->groups == first.groups) second = nullptr;
      }
      candidates.push_back(context.phase == Phase::kPrune ? pruned(context.space, first, second, child)
                                                          : merged(context.space, first, second, child));
    }
    return candidates;
  }

  std::optional<int64_t> last_parent(const Archive& /*archive*/) const override {
    return leaders_.full() ? std::optional(leaders_.best().back()) : std::nullopt;
  }

 private:
  // A place among the survivors, which stand best first: the lowest of those drawn.
  size_t parent(size_t survivors, const Child& child, uint32_t number) const {
    size_t best = survivors;
    for (uint32_t entrant = 0; entrant < static_cast<uint32_t>(parameters_.tournament); ++entrant) {
      const Address address{child.seed, Purpose::kTournament, child.generation, child.individual, 0, number,
                            entrant};
      best = std::min(best, static_cast<size_t>(random_below(address, survivors)));
    }
    return best;
  }

  // Where fewer parameters are an objective, random genomes of all sizes begin.
  void spread(const AskContext& context, uint32_t individual, Candidate* candidate) const {
    if (!setting_.objectives.parameters || candidate->origin != "random") return;
    const Child child{context.seed, context.generation, individual};
    KeptSets sets = kept_sets(candidate->genome, context.space.experts);
    int64_t most = 0;
    for (const std::vector<int32_t>& set : sets)
      most += static_cast<int64_t>(set.size()) - context.space.least;
    const Address address{child.seed, Purpose::kShrink, child.generation, child.individual, 1};
    const uint64_t count = random_below(address, static_cast<uint64_t>(most) + 1);
    shrink_levels(context.space, &sets, static_cast<int64_t>(count), child);
    candidate->genome = one_hot_genome(context.space, sets);
  }

  Candidate pruned(const GenomeSpace& space, const Genome& first, const Genome* second,
                   const Child& child) const {
    KeptSets sets = kept_sets(first, space.experts);
    const KeptSets before = sets;
    if (second != nullptr) sets = cross_sets(sets, kept_sets(*second, space.experts), child);
    const auto uniform = [&](Purpose purpose, uint32_t group) {
      return random_uniform({child.seed, purpose, child.generation, child.individual, group, 1});
    };
    int32_t top_k = first.top_k;
    if (space.top_k_varies() && uniform(Purpose::kTopK, 0) < parameters_.switches)
      top_k = next_top_k(space, top_k, child, 0);
    if (space.counts_vary() && uniform(Purpose::kSwitch, 0) < parameters_.switches) {
      // Where fewer parameters are an objective, every second one changes their number.
      if (setting_.objectives.parameters && uniform(Purpose::kResize, 0) < 0.5) {
        resize_level(space, &sets, child, 0);
      } else {
        switch_level(space, &sets, child, 0, !setting_.objectives.parameters);
      }
    }
    const double each = parameters_.swaps / static_cast<double>(sets.size());
    for (uint32_t group = 0; group < sets.size(); ++group) {
      if (uniform(Purpose::kSwap, group) < each)
        swap_expert(&sets, static_cast<int32_t>(group), space.experts, child);
    }
    if (sets == before && top_k == first.top_k) {  // a copy would be answered from the archive
      const Address address{child.seed, Purpose::kSwap, child.generation, child.individual, 0, 2};
      swap_expert(&sets, static_cast<int32_t>(random_below(address, sets.size())), space.experts, child, 2);
    }
    Genome genome = one_hot_genome(space, sets);
    genome.top_k = top_k;
    return {std::move(genome), second == nullptr ? "mutation" : "crossover"};
  }

  Candidate merged(const GenomeSpace& space, const Genome& first, const Genome* second,
                   const Child& child) const {
    const auto groups = static_cast<int32_t>(first.groups.size());
    Genome genome = first;
    const bool crosses = second != nullptr && same_shape(first, *second);
    if (crosses) {
      const std::vector<GroupFlags> all(first.groups.size(), GroupFlags{true, true});
      genome = crossover(first, *second, space.experts, all, 0.5, child);
    }
    const std::vector<GroupFlags> flags =
        draw_flags(groups, parameters_.flag_probability, /*at_least_one=*/true, child);
    return {gaussian_mutation(genome, space.experts, flags, parameters_.element_probability,
                              parameters_.sigma, child),
            crosses ? "crossover" : "mutation"};
  }

  GeneticParameters parameters_;
  PhaseSetting setting_;
  Leaders leaders_;                 // with one objective, the survivors
  std::vector<int64_t> survivors_;  // with several, best first
};

}  // namespace

AlgorithmRow genetic_algorithm() {
  AlgorithmRow row = own_algorithm<Genetic, GeneticParameters>(
      "genetic", "tournaments, crossover of kept sets, swaps of single experts", true, true);
  row.counts = true;
  row.objectives = true;
  return row;
}

}  // namespace eep
