// The operators of EEP's released search.
#include "es/operators.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "es/random.h"
#include "kernels/common/error.h"

namespace eep {
namespace {

constexpr double kTinySum = 1e-6;
// Differences of fractions carry rounding: 0.91 - 0.88 must not count as more than 3 points.
constexpr double kPointsSlack = 1e-9;

Address address_of(const Child& child, Purpose purpose, size_t group, size_t row = 0, size_t column = 0) {
  return {child.seed,
          purpose,
          child.generation,
          child.individual,
          static_cast<uint32_t>(group),
          static_cast<uint32_t>(row),
          static_cast<uint32_t>(column)};
}

bool happens(double probability, const Address& address) { return random_uniform(address) < probability; }

// First index more than `points` below the best, or the size.
int64_t first_past(std::span<const double> fitness, double points, double points_per_unit) {
  const auto size = static_cast<int64_t>(fitness.size());
  for (int64_t i = 1; i < size; ++i) {
    const double best = fitness[0];
    const double value = fitness[static_cast<size_t>(i)];
    if (std::isnan(best)) return size;  // then all are NaN, and equal
    if (std::isnan(value) || (best - value) * points_per_unit > points + kPointsSlack) return i;
  }
  return size;
}

// Replaces or perturbs one matrix.
void add_noise(std::vector<float>& matrix, size_t group, int32_t experts, double probability, double sigma,
               const Child& child, Purpose element, Purpose noise) {
  for (size_t i = 0; i < matrix.size(); ++i) {
    const size_t row = i / static_cast<size_t>(experts);
    const size_t column = i % static_cast<size_t>(experts);
    if (!happens(probability, address_of(child, element, group, row, column))) continue;
    const double step = sigma * random_normal(address_of(child, noise, group, row, column));
    matrix[i] = static_cast<float>(static_cast<double>(matrix[i]) + step);
  }
}

std::vector<float> cross(const std::vector<float>& first, const std::vector<float>& second, size_t group,
                         int32_t experts, bool by_rows, double first_parent, const Child& child,
                         Purpose purpose) {
  if (!by_rows) return happens(first_parent, address_of(child, purpose, group, 0, 1)) ? first : second;
  std::vector<float> mixed = first;
  const size_t width = static_cast<size_t>(experts);
  for (size_t row = 0; row * width < mixed.size(); ++row) {
    if (happens(first_parent, address_of(child, purpose, group, row))) continue;
    std::copy_n(second.begin() + static_cast<ptrdiff_t>(row * width), width,
                mixed.begin() + static_cast<ptrdiff_t>(row * width));
  }
  return mixed;
}

}  // namespace

ParentRule parent_rule_of(FitnessKind kind) {
  switch (kind) {
    case FitnessKind::kMetric:
      return ParentRule::kWindow;
    case FitnessKind::kMetricThenLoglik:
      return ParentRule::kRankedWindow;
    case FitnessKind::kLoglik:
      break;
  }
  return ParentRule::kRanking;
}

void visit(ParameterVisitor& v, OperatorParameters& p) {
  static constexpr std::array<std::string_view, 4> kRules{"window", "ranking", "ranked_window", "auto"};
  v.integer("initial", p.initial, 1, 1000000);
  v.number("flag_probability", p.flag_probability, 0.001, 1);  // at 0 the draw of flags would not end
  v.number("row_probability", p.row_probability, 0, 1);
  v.number("element_probability", p.element_probability, 0, 1);
  v.number("sigma", p.sigma, 0, 10);
  v.number("normalise_probability", p.normalise_probability, 0, 1);
  v.number("crossover_probability", p.crossover_probability, 0, 1);
  v.number("crossover_first_parent", p.crossover_first_parent, 0, 1);
  v.number("mutation_window_points", p.mutation_window_points, 0, 100);
  v.number("crossover_window_points", p.crossover_window_points, 0, 100);
  v.integer("crossover_window_minimum", p.crossover_window_minimum, 2, 1000000);
  v.constant("points_per_unit", p.points_per_unit, 1e-6, 1e6);
  visit_choice(v, "parent_rule", p.parent_rule, kRules);
  v.integer("mutation_rank", p.mutation_rank, 1, 1000000);
  v.integer("crossover_rank", p.crossover_rank, 2, 1000000);
}

std::vector<GroupFlags> draw_flags(int32_t groups, double probability, bool at_least_one,
                                   const Child& child) {
  std::vector<GroupFlags> flags(static_cast<size_t>(groups));
  for (size_t redraw = 0;; ++redraw) {
    bool any = false;
    for (size_t group = 0; group < flags.size(); ++group) {
      flags[group].w_em = happens(probability, address_of(child, Purpose::kFlag, group, redraw, 0));
      flags[group].w_rm = happens(probability, address_of(child, Purpose::kFlag, group, redraw, 1));
      any = any || flags[group].w_em || flags[group].w_rm;
    }
    if (any || !at_least_one) return flags;
  }
}

Genome random_one_hot(const GenomeSpace& space, const Child& child, uint32_t attempt) {
  std::vector<std::vector<int32_t>> experts;
  for (size_t group = 0; group < space.kept.size(); ++group) {
    experts.push_back(random_subset(address_of(child, Purpose::kInitialGenome, group, attempt), space.experts,
                                    space.kept[group]));
  }
  return one_hot_genome(space, experts);
}

Genome discrete_mutation(const Genome& parent, int32_t experts, std::span<const GroupFlags> flags,
                         double row_probability, const Child& child) {
  Genome genome = parent;
  const size_t width = static_cast<size_t>(experts);
  for (size_t index = 0; index < genome.groups.size(); ++index) {
    if (!flags[index].w_em) continue;
    GroupGenes& group = genome.groups[index];
    std::vector<int32_t> used(width, 0);  // rows that an expert is the main one of
    for (size_t row = 0; row < static_cast<size_t>(group.kept); ++row) {
      ++used[static_cast<size_t>(main_expert(group.w_em.data() + row * width, experts))];
    }
    for (size_t row = 0; row < static_cast<size_t>(group.kept); ++row) {
      if (!happens(row_probability, address_of(child, Purpose::kRowMutates, index, row))) continue;
      --used[static_cast<size_t>(main_expert(group.w_em.data() + row * width, experts))];
      std::vector<size_t> free;
      for (size_t expert = 0; expert < width; ++expert) {
        if (used[expert] == 0) free.push_back(expert);
      }
      const size_t chosen =
          free[random_below(address_of(child, Purpose::kRowExpert, index, row), free.size())];
      ++used[chosen];
      for (std::vector<float>* matrix : {&group.w_em, &group.w_rm}) {
        std::fill_n(matrix->begin() + static_cast<ptrdiff_t>(row * width), width, 0.0f);
        (*matrix)[row * width + chosen] = 1.0f;
      }
    }
  }
  return genome;
}

Genome gaussian_mutation(const Genome& parent, int32_t experts, std::span<const GroupFlags> flags,
                         double element_probability, double sigma, const Child& child) {
  Genome genome = parent;
  for (size_t group = 0; group < genome.groups.size(); ++group) {
    GroupGenes& genes = genome.groups[group];
    if (flags[group].w_em) {
      add_noise(genes.w_em, group, experts, element_probability, sigma, child, Purpose::kElementEm,
                Purpose::kNoiseEm);
    }
    if (flags[group].w_rm) {
      add_noise(genes.w_rm, group, experts, element_probability, sigma, child, Purpose::kElementRm,
                Purpose::kNoiseRm);
    }
  }
  return genome;
}

bool same_shape(const Genome& a, const Genome& b) {
  return std::equal(a.groups.begin(), a.groups.end(), b.groups.begin(), b.groups.end(),
                    [](const GroupGenes& x, const GroupGenes& y) { return x.kept == y.kept; });
}

Genome crossover(const Genome& parent1, const Genome& parent2, int32_t experts,
                 std::span<const GroupFlags> flags, double first_parent, const Child& child) {
  Genome genome = parent1;
  for (size_t group = 0; group < genome.groups.size(); ++group) {
    const GroupGenes& first = parent1.groups[group];
    const GroupGenes& second = parent2.groups[group];
    genome.groups[group].w_em = cross(first.w_em, second.w_em, group, experts, flags[group].w_em,
                                      first_parent, child, Purpose::kCrossoverEm);
    genome.groups[group].w_rm = cross(first.w_rm, second.w_rm, group, experts, flags[group].w_rm,
                                      first_parent, child, Purpose::kCrossoverRm);
  }
  return genome;
}

Genome normalised_rows(const Genome& genome, int32_t experts) {
  Genome result = genome;
  const size_t width = static_cast<size_t>(experts);
  for (GroupGenes& group : result.groups) {
    for (size_t first = 0; first < group.w_em.size(); first += width) {
      double sum = 0.0;
      for (size_t i = first; i < first + width; ++i) sum += static_cast<double>(group.w_em[i]);
      if (!(std::abs(sum) >= kTinySum)) continue;
      for (size_t i = first; i < first + width; ++i) {
        group.w_em[i] = static_cast<float>(static_cast<double>(group.w_em[i]) / sum);
      }
    }
  }
  return result;
}

Ranking::Ranking(const Archive& archive) {
  for (int64_t i = 0; i < archive.size(); ++i) {
    if (!archive[i].dropped) order_.push_back(i);
  }
  const auto compare = [&](int64_t a, int64_t b) {
    return archive.compare(archive[a].result, archive[b].result);
  };
  std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return compare(a, b) > 0; });
  run_.resize(order_.size());
  for (size_t begin = 0; begin < order_.size();) {
    size_t end = begin + 1;
    while (end < order_.size() && compare(order_[begin], order_[end]) == 0) ++end;
    for (; begin < end; ++begin) {
      fitness_.push_back(archive[order_[begin]].result.fitness);
      run_[begin].end = static_cast<int64_t>(end);
      run_[begin].begin = begin == 0 || run_[begin - 1].end != run_[begin].end ? static_cast<int64_t>(begin)
                                                                               : run_[begin - 1].begin;
    }
  }
}

int64_t Ranking::at(int64_t position, const Child& child) const {
  // In a shuffled run every member is equally likely at every position.
  const Run& run = run_[static_cast<size_t>(position)];
  const uint64_t pick =
      random_below(address_of(child, Purpose::kTieOrder, 0), static_cast<uint64_t>(run.end - run.begin));
  return order_[static_cast<size_t>(run.begin) + pick];
}

std::pair<int64_t, int64_t> Ranking::at(int64_t first, int64_t second, const Child& child) const {
  const Run& run1 = run_[static_cast<size_t>(first)];
  const Run& run2 = run_[static_cast<size_t>(second)];
  const uint64_t pick1 =
      random_below(address_of(child, Purpose::kTieOrder, 0), static_cast<uint64_t>(run1.end - run1.begin));
  const bool same = run1.begin == run2.begin;
  uint64_t pick2 = random_below(address_of(child, Purpose::kTieOrder, 0, 0, 1),
                                static_cast<uint64_t>(run2.end - run2.begin - (same ? 1 : 0)));
  if (same && pick2 >= pick1) ++pick2;  // one of the others
  return {order_[static_cast<size_t>(run1.begin) + pick1], order_[static_cast<size_t>(run2.begin) + pick2]};
}

int64_t mutation_window(std::span<const double> fitness, const OperatorParameters& parameters) {
  const auto size = static_cast<int64_t>(fitness.size());
  const int64_t past = first_past(fitness, parameters.mutation_window_points, parameters.points_per_unit);
  const int64_t window = std::min(past + 1, size);
  switch (parameters.parent_rule) {
    case ParentRule::kWindow:
    case ParentRule::kAuto:
      return window;
    case ParentRule::kRankedWindow:
      return std::min<int64_t>(window, parameters.mutation_rank);
    case ParentRule::kRanking:
      break;
  }
  return std::min<int64_t>(size, parameters.mutation_rank);
}

int64_t crossover_window(std::span<const double> fitness, const OperatorParameters& parameters) {
  const auto size = static_cast<int64_t>(fitness.size());
  const int64_t past = first_past(fitness, parameters.crossover_window_points, parameters.points_per_unit);
  const int64_t window = std::min(std::max<int64_t>(past, parameters.crossover_window_minimum), size);
  switch (parameters.parent_rule) {
    case ParentRule::kWindow:
    case ParentRule::kAuto:
      return window;
    case ParentRule::kRankedWindow:
      return std::min<int64_t>(window, parameters.crossover_rank);
    case ParentRule::kRanking:
      break;
  }
  return std::min<int64_t>(size, parameters.crossover_rank);
}

}  // namespace eep
