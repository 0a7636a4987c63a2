// A planted problem with items and decisions, for algorithms that move coefficients: from the identity every
// coefficient wants to move by +-kStep. An item decides by two tokens, or by three choices, each along random
// directions of its own; its rivals' log-odds are -2 + kSteep (a . (theta - planted))^2, |a| = 1.
#pragma once

#include <cmath>
#include <vector>

#include "es/coordinates.h"
#include "es/random.h"
#include "es/search.h"
#include "tests/es/support.h"

namespace eep::test {

class ItemsProblem {
 public:
  static constexpr double kStep = 0.1, kSteep = 300.0;
  static constexpr int32_t kItems = 512;

  explicit ItemsProblem(uint64_t seed, int32_t experts = 4, size_t groups = 4)
      : space(make_space(experts, std::vector<int32_t>(groups, experts))) {
    planted = to_coordinates(identity_genome(space));
    for (size_t i = 0; i < planted.size(); ++i) {
      const Address address{seed, Purpose::kFlag, 0, 0, 0, static_cast<uint32_t>(i), 0};
      planted[i] += random_below(address, 2) == 0 ? kStep : -kStep;
    }
    const size_t d = planted.size();
    directions.resize(2 * kItems * d);
    for (size_t row = 0; row < 2 * kItems; ++row) {
      double square = 0;
      for (size_t i = 0; i < d; ++i) {
        double& value = directions[row * d + i];
        value = random_normal(
            {seed, Purpose::kNoiseEm, 0, 0, 0, static_cast<uint32_t>(row), static_cast<uint32_t>(i)});
        square += value * value;
      }
      for (size_t i = 0; i < d; ++i) directions[row * d + i] /= std::sqrt(square);
    }
  }

  Evaluation evaluate(const Genome& genome, std::span<const int32_t> items, bool decisions) const {
    const std::vector<double> at = to_coordinates(genome);
    const size_t d = at.size();
    Evaluation result;
    const auto rival = [&](size_t row) {
      double along = 0;
      for (size_t i = 0; i < d; ++i) along += directions[row * d + i] * (at[i] - planted[i]);
      return -2.0 + kSteep * along * along;
    };
    const auto count = items.empty() ? static_cast<size_t>(kItems) : items.size();
    for (size_t i = 0; i < count; ++i) {
      const auto item = items.empty() ? i : static_cast<size_t>(items[i]);
      const double u = rival(2 * item), v = rival(2 * item + 1);
      Decisions& made = result.decisions;
      if (item % 2 == 0) {
        for (const double each : {u, v})
          made.values.push_back(static_cast<float>(-std::log1p(std::exp(each))));
        made.right.push_back(-1);
        result.tiebreak +=
            0.5 * static_cast<double>(made.values.back() + made.values[made.values.size() - 2]);
      } else {
        for (const double each : {u, 0.0, v}) made.values.push_back(static_cast<float>(each));
        made.right.push_back(1);
        result.tiebreak -= std::log(1 + std::exp(u) + std::exp(v));
      }
      made.item_end.push_back(static_cast<int32_t>(made.values.size()));
    }
    result.n = static_cast<int32_t>(count);
    result.tiebreak /= static_cast<double>(count);
    result.fitness = result.tiebreak;
    if (!decisions) result.decisions = {};
    return result;
  }

  EvaluateItems evaluator() const {
    return [this](const EvaluationRequest& request) {
      std::vector<Evaluation> results;
      for (const Genome& genome : request.genomes) {
        results.push_back(evaluate(genome, request.items, request.decisions));
      }
      return results;
    };
  }

  // Share of the squared distance to the planted genome that is gone: 0 at the identity, 1 there.
  double gain(const Genome& genome) const {
    const std::vector<double> at = to_coordinates(genome);
    double left = 0;
    for (size_t i = 0; i < at.size(); ++i) left += (at[i] - planted[i]) * (at[i] - planted[i]);
    return 1.0 - left / (static_cast<double>(at.size()) * kStep * kStep);
  }

  GenomeSpace space;
  std::vector<double> planted;     // [d]
  std::vector<double> directions;  // [2 kItems, d]
};

}  // namespace eep::test
