// snes. Its state, the distribution, is made again from the archive: samples have addresses, and their ranks
// are in the archive. The last evaluation of the phase is the mean.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "es/algorithms.h"
#include "es/coordinates.h"
#include "es/random.h"
#include "es/snes.h"
#include "kernels/common/scalar_math.h"

namespace eep {
namespace {

class Snes final : public Algorithm {
 public:
  explicit Snes(const SnesParameters& parameters) : parameters_(parameters) {}

  AlgorithmNeeds needs() const override { return {true, true, false}; }

  void begin(PhaseSetting setting) override { setting_ = std::move(setting); }

  int64_t shard(const Archive& /*archive*/) const override { return setting_.shard; }

  std::vector<Candidate> ask(const AskContext& context) const override {
    SnesState first;
    if (state_.mean.empty()) first = begin_state(context.archive);
    const SnesState& state = state_.mean.empty() ? first : state_;
    const Genome& shape = start(context.archive);
    const int64_t left = setting_.phase_begin + setting_.evaluations - context.archive.size();
    const int64_t pairs = std::min<int64_t>(count_pairs(left), context.count / 2);
    std::vector<Candidate> candidates;
    if (pairs == 0) {
      candidates.push_back({from_coordinates(shape, state.mean), "mean"});
      return candidates;
    }
    const size_t d = state.mean.size();
    const std::vector<double> z = samples(context.generation, pairs);
    std::vector<double> sample(d);
    for (size_t pair = 0; pair < static_cast<size_t>(pairs); ++pair) {
      for (const double sign : {1.0, -1.0}) {
        for (size_t i = 0; i < d; ++i) sample[i] = state.mean[i] + sign * state.sigma[i] * z[pair * d + i];
        candidates.push_back({from_coordinates(shape, sample), "sample"});
      }
    }
    return candidates;
  }

  void tell(const Archive& archive, int64_t begin, int64_t end) override {
    if (archive[begin].evaluation < setting_.phase_begin) return;
    if (state_.mean.empty()) state_ = begin_state(archive);
    if (archive[begin].origin == "mean") {
      result_ = begin;
      return;
    }
    std::vector<double> value;
    for (int64_t i = begin; i < end; ++i) value.push_back(archive[i].result.tiebreak);
    const auto d = static_cast<double>(state_.mean.size());
    const double rate =
        parameters_.sigma_rate > 0.0 ? parameters_.sigma_rate : (3.0 + logarithm(d)) / (5.0 * std::sqrt(d));
    snes_update(&state_, samples(archive[begin].generation, (end - begin) / 2), value, parameters_.mean_rate,
                rate);
  }

  int64_t result() const override { return result_; }

 private:
  const Genome& start(const Archive& archive) const {
    if (!setting_.starts.empty()) return setting_.starts.back().genome;
    return archive[archive.best(0, setting_.phase_begin)].genome;
  }

  SnesState begin_state(const Archive& archive) const {
    SnesState state;
    state.mean = to_coordinates(start(archive));
    state.sigma.assign(state.mean.size(), parameters_.sigma);
    return state;
  }

  // One evaluation is for the mean; the pairs of the rest are spread evenly.
  int64_t count_pairs(int64_t left) const {
    const int64_t pairs = (left - 1) / 2;
    const int64_t generations = std::max<int64_t>(1, pairs / parameters_.pairs);
    return pairs / generations;
  }

  // Standard normal, [pairs, d].
  std::vector<double> samples(uint32_t generation, int64_t pairs) const {
    const auto d = static_cast<size_t>(dimensions(setting_.space));
    std::vector<double> z;
    z.reserve(static_cast<size_t>(pairs) * d);
    for (uint32_t pair = 0; pair < static_cast<uint32_t>(pairs); ++pair) {
      for (size_t i = 0; i < d; ++i) {
        z.push_back(random_normal({setting_.seed, Purpose::kSample, generation, pair, 0,
                                   static_cast<uint32_t>(i >> 16), static_cast<uint32_t>(i & 0xffff)}));
      }
    }
    return z;
  }

  SnesParameters parameters_;
  PhaseSetting setting_;
  SnesState state_;  // empty before the phase
  int64_t result_ = -1;
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
  std::vector<size_t> order(value.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (std::isnan(value[a]) || std::isnan(value[b])) return !std::isnan(value[a]) && std::isnan(value[b]);
    return value[a] > value[b];
  });
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
