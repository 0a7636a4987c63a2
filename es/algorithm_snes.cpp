// snes: antithetic pairs of a distribution whose mean and widths follow the ranks.
#include <algorithm>
#include <cmath>
#include <utility>

#include "es/algorithms.h"
#include "es/distribution.h"
#include "es/snes.h"
#include "kernels/common/scalar_math.h"

namespace eep {
namespace {

class Snes final : public Distribution {
 public:
  explicit Snes(const SnesParameters& parameters) : parameters_(parameters) {}

 protected:
  void start(const Genome& /*shape*/, std::vector<double> mean) override {
    state_.sigma.assign(mean.size(), parameters_.sigma);
    state_.mean = std::move(mean);
  }

  const std::vector<double>& mean() const override { return state_.mean; }
  int64_t samples() const override { return 2 * int64_t{parameters_.pairs}; }
  int64_t unit() const override { return 2; }

  std::vector<double> draw(uint32_t generation, int64_t count) const override {
    const size_t d = state_.mean.size();
    const std::vector<double>& z = normals(generation, count / 2);
    std::vector<double> points;
    points.reserve(static_cast<size_t>(count) * d);
    for (size_t pair = 0; pair < static_cast<size_t>(count / 2); ++pair) {
      for (const double sign : {1.0, -1.0}) {
        for (size_t i = 0; i < d; ++i)
          points.push_back(state_.mean[i] + sign * state_.sigma[i] * z[pair * d + i]);
      }
    }
    return points;
  }

  void update(uint32_t generation, std::span<const double> value, int64_t /*done*/,
              int64_t /*all*/) override {
    const auto d = static_cast<double>(state_.mean.size());
    const double rate =
        parameters_.sigma_rate > 0.0 ? parameters_.sigma_rate : (3.0 + logarithm(d)) / (5.0 * std::sqrt(d));
    snes_update(&state_, normals(generation, static_cast<int64_t>(value.size()) / 2), value,
                parameters_.mean_rate, rate);
  }

 private:
  SnesParameters parameters_;
  SnesState state_;
};

}  // namespace

std::vector<double> rank_utilities(size_t count) {
  std::vector<double> utility(count);
  const double top = logarithm(static_cast<double>(count) / 2.0 + 1.0);
  double sum = 0.0;
  for (size_t rank = 0; rank < count; ++rank) {
    utility[rank] = std::max(0.0, top - logarithm(static_cast<double>(rank) + 1.0));
    sum += utility[rank];
  }
  for (double& u : utility) u = u / sum - 1.0 / static_cast<double>(count);
  return utility;
}

void snes_update(SnesState* state, std::span<const double> z, std::span<const double> value, double mean_rate,
                 double sigma_rate) {
  const size_t d = state->mean.size();
  const std::vector<size_t> order = best_first(value);
  const std::vector<double> by_rank = rank_utilities(value.size());
  std::vector<double> utility(value.size());
  for (size_t rank = 0; rank < order.size(); ++rank) utility[order[rank]] = by_rank[rank];
  for (size_t i = 0; i < d; ++i) {
    double along = 0.0, spread = 0.0;
    for (size_t pair = 0; 2 * pair < value.size(); ++pair) {
      const double sample = z[pair * d + i];
      along += (utility[2 * pair] - utility[2 * pair + 1]) * sample;
      spread += (utility[2 * pair] + utility[2 * pair + 1]) * (sample * sample - 1.0);
    }
    state->mean[i] += mean_rate * state->sigma[i] * along;
    state->sigma[i] *= exponential_double(std::clamp(0.5 * sigma_rate * spread, -5.0, 5.0));
  }
}

void visit(ParameterVisitor& v, SnesParameters& p) {
  v.integer("pairs", p.pairs, 1, 500000);
  v.number("sigma", p.sigma, 1e-6, 10);
  v.number("mean_rate", p.mean_rate, 1e-6, 10);
  v.number("sigma_rate", p.sigma_rate, 0, 1);
}

AlgorithmRow snes_algorithm() {
  return own_algorithm<Snes, SnesParameters>(
      "snes", "separable natural evolution strategy: a normal distribution's mean and widths", false, true);
}

}  // namespace eep
