// One child of EEP's released search.
#include "es/breed.h"

#include <algorithm>

#include "es/random.h"

namespace eep {
namespace {

Address address_of(const Child& child, Purpose purpose, uint32_t column = 0) {
  return {child.seed, purpose, child.generation, child.individual, 0, 0, column};
}

}  // namespace

Parents select_parents(const Ranking& ranking, Phase phase, const OperatorParameters& parameters,
                       const Child& child) {
  const auto draw = [&](Purpose purpose, uint32_t column, int64_t n) {
    return static_cast<int64_t>(random_below(address_of(child, purpose, column), static_cast<uint64_t>(n)));
  };
  if (phase == Phase::kMerge &&
      random_uniform(address_of(child, Purpose::kUseCrossover)) < parameters.crossover_probability) {
    const int64_t window = crossover_window(ranking.fitness(), parameters);
    if (window >= 2) {
      const int64_t first = draw(Purpose::kCrossoverParent, 0, window);
      int64_t second = draw(Purpose::kCrossoverParent, 1, window - 1);
      if (second >= first) ++second;  // one of the others
      const auto [parent1, parent2] = ranking.at(first, second, child);
      return {parent1, parent2};
    }
  }
  const int64_t window = mutation_window(ranking.fitness(), parameters);
  return {ranking.at(draw(Purpose::kMutationParent, 0, window), child), -1};
}

std::optional<int64_t> last_parent(const Archive& archive, Phase phase,
                                   const OperatorParameters& parameters) {
  const Ranking ranking(archive);
  int64_t window = mutation_window(ranking.fitness(), parameters);
  if (phase == Phase::kMerge) window = std::max(window, crossover_window(ranking.fitness(), parameters));
  if (window >= ranking.size()) return std::nullopt;
  return ranking.evaluation(window - 1);
}

Genome vary(const Genome& first, const Genome* second, int32_t experts, Phase phase,
            std::span<const GroupFlags> flags, const OperatorParameters& parameters, const Child& child) {
  Genome genome = second == nullptr
                      ? first
                      : crossover(first, *second, experts, flags, parameters.crossover_first_parent, child);
  if (phase == Phase::kPrune) {
    genome = discrete_mutation(genome, experts, flags, parameters.row_probability, child);
  } else {
    genome =
        gaussian_mutation(genome, experts, flags, parameters.element_probability, parameters.sigma, child);
  }
  if (random_uniform(address_of(child, Purpose::kNormalise)) < parameters.normalise_probability) {
    genome = normalised_rows(genome, experts);
  }
  return genome;
}

}  // namespace eep
