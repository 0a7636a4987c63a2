// openai_es: steps along the gradient of the smoothed rank.
#include <cmath>
#include <utility>

#include "es/algorithms.h"
#include "es/distribution.h"
#include "es/openai_es.h"

namespace eep {
namespace {

double root_mean_square(std::span<const double> values) {
  double sum = 0.0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

class OpenaiEs final : public Distribution {
 public:
  explicit OpenaiEs(const OpenaiEsParameters& parameters) : parameters_(parameters) {}

 protected:
  void start(const Genome& /*shape*/, std::vector<double> mean) override {
    state_.velocity.assign(mean.size(), 0.0);
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
      for (const double width : {parameters_.sigma, -parameters_.sigma}) {
        for (size_t i = 0; i < d; ++i) points.push_back(state_.mean[i] + width * z[pair * d + i]);
      }
    }
    return points;
  }

  void update(uint32_t generation, std::span<const double> value, int64_t done, int64_t all) override {
    const double left = 1.0 - static_cast<double>(done) / static_cast<double>(all);
    openai_es_update(&state_, normals(generation, static_cast<int64_t>(value.size()) / 2), value,
                     parameters_.momentum, parameters_.rate * left);
  }

 private:
  OpenaiEsParameters parameters_;
  OpenaiEsState state_;
};

}  // namespace

void openai_es_update(OpenaiEsState* state, std::span<const double> z, std::span<const double> value,
                      double momentum, double step) {
  const size_t d = state->mean.size();
  const std::vector<size_t> order = best_first(value);
  std::vector<double> utility(value.size());
  const auto last = static_cast<double>(value.size() - 1);
  for (size_t rank = 0; rank < order.size(); ++rank)
    utility[order[rank]] = 0.5 - static_cast<double>(rank) / last;
  std::vector<double> gradient(d, 0.0);
  for (size_t pair = 0; 2 * pair < value.size(); ++pair) {
    const double weight = utility[2 * pair] - utility[2 * pair + 1];
    for (size_t i = 0; i < d; ++i) gradient[i] += weight * z[pair * d + i];
  }
  const double size = root_mean_square(gradient);
  if (!(size > 0.0)) return;
  for (size_t i = 0; i < d; ++i)
    state->velocity[i] = momentum * state->velocity[i] + (1.0 - momentum) * gradient[i] / size;
  const double speed = root_mean_square(state->velocity);
  if (!(speed > 0.0)) return;
  for (size_t i = 0; i < d; ++i) state->mean[i] += step * state->velocity[i] / speed;
}

void visit(ParameterVisitor& v, OpenaiEsParameters& p) {
  v.integer("pairs", p.pairs, 1, 500000);
  v.number("sigma", p.sigma, 1e-6, 10);
  v.number("rate", p.rate, 1e-6, 10);
  v.number("momentum", p.momentum, 0, 0.999);
}

AlgorithmRow openai_es_algorithm() {
  return own_algorithm<OpenaiEs, OpenaiEsParameters>(
      "openai_es", "steps with momentum along the gradient of the rank, from antithetic pairs", false, true);
}

}  // namespace eep
