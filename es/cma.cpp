// CMA-ES over block diagonal covariances. All sums in one fixed order: same bits everywhere.
#include "es/cma.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "es/coordinates.h"
#include "es/gauss_newton.h"
#include "kernels/common/scalar_math.h"

namespace eep {
namespace {

// In eight sums, so that they do not wait for each other; one fixed order.
double dot(const double* a, const double* b, size_t n) {
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  double rest = 0.0;
  for (; i < n; ++i) rest += a[i] * b[i];
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0] + rest;
}

// A of every block; one whose matrix is no longer positive definite goes back to its diagonal.
void factorise(CmaState* state) {
  for (const CmaBlock& block : state->blocks) {
    const size_t n = block.size;
    double* c = state->covariance.data() + block.at;
    std::vector<double> factor(c, c + n * n);
    if (!factor_positive(&factor, n)) {
      for (size_t i = 0; i < n; ++i) {
        const double diagonal = c[i * n + i];
        std::fill_n(c + i * n, n, 0.0);
        c[i * n + i] = diagonal > 1e-12 ? diagonal : 1e-12;  // false for NaN
      }
      factor.assign(c, c + n * n);
      factor_positive(&factor, n);
    }
    std::copy(factor.begin(), factor.end(), state->factor.begin() + static_cast<ptrdiff_t>(block.at));
  }
  state->factored = state->generation;
}

double square(std::span<const double> values) {
  double sum = 0.0;
  for (const double value : values) sum += value * value;
  return sum;
}

// C = keep C + one p p^T + sum_i weights_i y_i y_i^T, y: [count, d], block by block.
void update_covariance(CmaState* state, double keep, double one, std::span<const double> weights,
                       std::span<const double> y) {
  const size_t d = state->mean.size();
  for (const CmaBlock& block : state->blocks) {
    for (size_t i = 0; i < block.size; ++i) {
      double* row = state->covariance.data() + block.at + i * block.size;
      for (size_t j = 0; j <= i; ++j) row[j] *= keep;
      const auto add = [&](double factor, const double* v) {
        const double left = factor * v[block.first + i];
        for (size_t j = 0; j <= i; ++j) row[j] += left * v[block.first + j];
      };
      add(one, state->path.data());
      for (size_t sample = 0; sample < weights.size(); ++sample) add(weights[sample], y.data() + sample * d);
    }
  }
}

}  // namespace

CmaConstants cma_constants(int64_t dimensions, int64_t count, int64_t block) {
  CmaConstants c;
  const auto d = static_cast<double>(dimensions);
  const double top = logarithm((static_cast<double>(count) + 1.0) / 2.0);
  double plus = 0.0, plus_squares = 0.0, minus = 0.0, minus_squares = 0.0;
  for (int64_t rank = 0; rank < count; ++rank) {
    const double weight = top - logarithm(static_cast<double>(rank) + 1.0);
    c.weights.push_back(weight);
    (weight > 0.0 ? plus : minus) += std::abs(weight);
    (weight > 0.0 ? plus_squares : minus_squares) += weight * weight;
  }
  c.mu_eff = plus * plus / plus_squares;
  const double mu_eff_minus = minus * minus / minus_squares;
  c.sigma_rate = (c.mu_eff + 2.0) / (d + c.mu_eff + 5.0);
  c.sigma_damping = 1.0 + 2.0 * std::max(0.0, std::sqrt((c.mu_eff - 1.0) / (d + 1.0)) - 1.0) + c.sigma_rate;
  c.path_rate = (4.0 + c.mu_eff / d) / (d + 4.0 + 2.0 * c.mu_eff / d);
  const double faster = (d + 2.0) / (static_cast<double>(block) + 2.0);
  c.one_rate = std::min(1.0, faster * 2.0 / ((d + 1.3) * (d + 1.3) + c.mu_eff));
  c.mu_rate = std::min(1.0 - c.one_rate, faster * 2.0 * (0.25 + c.mu_eff - 2.0 + 1.0 / c.mu_eff) /
                                             ((d + 2.0) * (d + 2.0) + c.mu_eff));
  // The worse half: as much as the better one, but never so much that C could stop being positive.
  const double most = std::min({1.0 + c.one_rate / c.mu_rate, 1.0 + 2.0 * mu_eff_minus / (c.mu_eff + 2.0),
                                (1.0 - c.one_rate - c.mu_rate) / (d * c.mu_rate)});
  for (double& weight : c.weights) weight *= weight > 0.0 ? 1.0 / plus : most / minus;
  c.expected_norm = std::sqrt(d) * (1.0 - 1.0 / (4.0 * d) + 1.0 / (21.0 * d * d));
  return c;
}

std::vector<size_t> covariance_blocks(const Genome& shape, int32_t experts, int64_t most) {
  size_t all = 0;
  for (const GroupGenes& group : shape.groups) all += group.w_em.size() + group.w_rm.size();
  const auto limit = static_cast<size_t>(most);
  if (all <= limit) return {all};
  std::vector<size_t> blocks;
  const auto width = static_cast<size_t>(experts);
  for (const GroupGenes& group : shape.groups) {
    const size_t rows = (group.w_em.size() + group.w_rm.size()) / width;
    if (limit < width) {  // not even a row
      for (size_t left = rows * width; left > 0; left -= blocks.back())
        blocks.push_back(std::min(limit, left));
      continue;
    }
    const size_t parts = (rows * width + limit / width * width - 1) / (limit / width * width);
    for (size_t part = 0; part < parts; ++part)
      blocks.push_back((rows * (part + 1) / parts - rows * part / parts) * width);
  }
  return blocks;
}

CmaState cma_begin(std::vector<double> mean, double sigma, std::span<const size_t> blocks) {
  CmaState state;
  state.sigma = sigma;
  state.path.assign(mean.size(), 0.0);
  state.sigma_path = state.path;
  state.mean = std::move(mean);
  size_t first = 0, at = 0;
  for (const size_t size : blocks) {
    state.blocks.push_back({first, size, at});
    first += size;
    at += size * size;
  }
  state.covariance.assign(at, 0.0);
  for (const CmaBlock& block : state.blocks) {
    for (size_t i = 0; i < block.size; ++i) state.covariance[block.at + i * block.size + i] = 1.0;
  }
  state.factor = state.covariance;
  return state;
}

std::vector<double> cma_directions(const CmaState& state, std::span<const double> z) {
  const size_t d = state.mean.size();
  std::vector<double> y(z.size());
  for (const CmaBlock& block : state.blocks) {
    for (size_t i = 0; i < block.size; ++i) {  // a row serves all samples while it is near
      const double* row = state.factor.data() + block.at + i * block.size;
      for (size_t at = block.first; at < z.size(); at += d) y[at + i] = dot(row, z.data() + at, i + 1);
    }
  }
  return y;
}

void cma_update(CmaState* state, std::span<const double> z, std::span<const double> y,
                std::span<const double> value) {
  const size_t d = state->mean.size(), count = value.size();
  if (count < 2) return;
  size_t largest = 0;
  for (const CmaBlock& block : state->blocks) largest = std::max(largest, block.size);
  const CmaConstants c =
      cma_constants(static_cast<int64_t>(d), static_cast<int64_t>(count), static_cast<int64_t>(largest));
  const std::vector<size_t> order = best_first(value);
  std::vector<double> weights(count, 0.0), step(d, 0.0), normal_step(d, 0.0);
  for (size_t rank = 0; rank < count; ++rank) {
    const size_t at = order[rank] * d;
    const double weight = c.weights[rank];
    // A bad sample counts by its direction, not by its length.
    weights[order[rank]] = c.mu_rate * (weight > 0.0 ? weight
                                                     : weight * static_cast<double>(d) /
                                                           std::max(square(z.subspan(at, d)), 1e-300));
    if (!(weight > 0.0)) continue;
    for (size_t i = 0; i < d; ++i) {
      step[i] += weight * y[at + i];
      normal_step[i] += weight * z[at + i];
    }
  }
  ++state->generation;
  const double along = std::sqrt(c.sigma_rate * (2.0 - c.sigma_rate) * c.mu_eff);
  for (size_t i = 0; i < d; ++i) {
    state->mean[i] += state->sigma * step[i];
    state->sigma_path[i] = (1.0 - c.sigma_rate) * state->sigma_path[i] + along * normal_step[i];
  }
  const double norm = std::sqrt(square(state->sigma_path));
  // What the path's length is to be compared with while it is young.
  double young = 1.0;
  for (int64_t i = 0; i < 2 * state->generation && young > 1e-12; ++i) young *= 1.0 - c.sigma_rate;
  const bool grows =
      norm < (1.4 + 2.0 / (static_cast<double>(d) + 1.0)) * c.expected_norm * std::sqrt(1.0 - young);
  const double forward = grows ? std::sqrt(c.path_rate * (2.0 - c.path_rate) * c.mu_eff) : 0.0;
  for (size_t i = 0; i < d; ++i) state->path[i] = (1.0 - c.path_rate) * state->path[i] + forward * step[i];
  double sum = 0.0;
  for (const double weight : c.weights) sum += weight;
  const double missing = grows ? 0.0 : c.path_rate * (2.0 - c.path_rate);
  const double keep = 1.0 + c.one_rate * missing - c.one_rate - c.mu_rate * sum;
  update_covariance(state, keep, c.one_rate, weights, y);
  state->sigma *=
      exponential_double(std::min(1.0, c.sigma_rate / c.sigma_damping * (norm / c.expected_norm - 1.0)));
  // Not oftener than C changes by a tenth.
  const double changes = 10.0 * static_cast<double>(largest) * (c.one_rate + c.mu_rate);
  const auto wait = static_cast<int64_t>(1.0 / std::max(changes, 1e-6));
  if (state->generation - state->factored >= wait) factorise(state);
}

void CmaSearch::start(const Genome& shape, std::vector<double> mean) {
  const std::vector<size_t> blocks = covariance_blocks(shape, space().experts, block_);
  state_ = cma_begin(std::move(mean), sigma_, blocks);
}

int64_t CmaSearch::samples() const {
  if (samples_ > 0) return samples_;
  return 4 + static_cast<int64_t>(3.0 * logarithm(static_cast<double>(state_.mean.size())));
}

std::vector<double> CmaSearch::draw(uint32_t generation, int64_t count) const {
  directions_ = cma_directions(state_, normals(generation, count));
  drawn_ = generation;
  const size_t d = state_.mean.size();
  std::vector<double> points(directions_.size());
  for (size_t i = 0; i < points.size(); ++i) points[i] = state_.mean[i % d] + state_.sigma * directions_[i];
  return points;
}

void CmaSearch::update(uint32_t generation, std::span<const double> value, int64_t /*done*/,
                       int64_t /*all*/) {
  const std::vector<double>& z = normals(generation, static_cast<int64_t>(value.size()));
  if (directions_.size() != z.size() || drawn_ != generation) directions_ = cma_directions(state_, z);
  cma_update(&state_, z, directions_, value);
  directions_.clear();
}

}  // namespace eep
