// Logistic regression in a few directions. All sums in one fixed order: same bits everywhere.
#include "es/gauss_newton.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/common/error.h"
#include "kernels/common/scalar_math.h"

namespace eep {
namespace {

constexpr double kLargestLogProbability = -2e-6;  // beyond it log(1 - p) is rounding
constexpr int kHalvings = 30;

// log((1 - p) / p) of l = log p.
double rival_of_token(float log_probability) {
  const double l = std::min(static_cast<double>(log_probability), kLargestLogProbability);
  if (!(l > -36.0)) return -l;  // 1 - p rounds to 1; NaN stays NaN
  return logarithm(1.0 - exponential_double(l)) - l;
}

// u of every rival, in the order of Rivals.
std::vector<double> rival_logits(const Decisions& decisions) {
  std::vector<double> logits;
  size_t begin = 0;
  for (size_t item = 0; item < decisions.item_end.size(); ++item) {
    const auto end = static_cast<size_t>(decisions.item_end[item]);
    const int32_t right = decisions.right[item];
    for (size_t i = begin; i < end; ++i) {
      if (right < 0) {
        logits.push_back(rival_of_token(decisions.values[i]));
      } else if (i != begin + static_cast<size_t>(right)) {
        logits.push_back(static_cast<double>(decisions.values[i]) -
                         static_cast<double>(decisions.values[begin + static_cast<size_t>(right)]));
      }
    }
    begin = end;
  }
  return logits;
}

// u + U a.
std::vector<double> moved_logits(const Rivals& rivals, std::span<const double> step) {
  const auto width = static_cast<size_t>(rivals.directions);
  std::vector<double> moved = rivals.logit;
  for (size_t rival = 0; rival < moved.size(); ++rival) {
    double sum = 0.0;
    for (size_t i = 0; i < width; ++i) sum += rivals.slope[rival * width + i] * step[i];
    moved[rival] += sum;
  }
  return moved;
}

// log(1 + sum exp u) of one decision; the share of each rival goes to `share`.
double log_partition(std::span<const double> logits, double* share) {
  const double largest = std::max(0.0, *std::max_element(logits.begin(), logits.end()));
  const auto term = [&](double u) { return u - largest > -700.0 ? exponential_double(u - largest) : 0.0; };
  double sum = term(0.0);
  for (size_t k = 0; k < logits.size(); ++k) {
    const double value = term(logits[k]);
    if (share != nullptr) share[k] = value;
    sum += value;
  }
  if (share != nullptr) {
    for (size_t k = 0; k < logits.size(); ++k) share[k] /= sum;
  }
  return largest + logarithm(sum);
}

double objective(const Rivals& rivals, std::span<const double> step, double ridge) {
  const std::vector<double> logits = moved_logits(rivals, step);
  double value = 0.0;
  size_t begin = 0;
  for (size_t decision = 0; decision < rivals.end.size(); ++decision) {
    const auto end = static_cast<size_t>(rivals.end[decision]);
    if (end > begin) {
      value -=
          rivals.weight[decision] * log_partition(std::span(logits).subspan(begin, end - begin), nullptr);
    }
    begin = end;
  }
  double square = 0.0;
  for (const double a : step) square += a * a;
  return value - 0.5 * ridge * square;
}

// Gradient and minus the Hessian of the objective.
struct Derivatives {
  std::vector<double> gradient;   // [P]
  std::vector<double> curvature;  // [P, P], lower triangle
};

Derivatives differentiate(const Rivals& rivals, std::span<const double> step, double ridge) {
  const auto width = static_cast<size_t>(rivals.directions);
  Derivatives d{std::vector<double>(width, 0.0), std::vector<double>(width * width, 0.0)};
  const auto add_square = [&](const double* row, double factor) {
    for (size_t i = 0; i < width; ++i) {
      const double left = factor * row[i];
      double* to = d.curvature.data() + i * width;
      for (size_t j = 0; j <= i; ++j) to[j] += left * row[j];
    }
  };
  const std::vector<double> logits = moved_logits(rivals, step);
  std::vector<double> share(logits.size());
  std::vector<double> mean(width);
  size_t begin = 0;
  for (size_t decision = 0; decision < rivals.end.size(); ++decision) {
    const auto end = static_cast<size_t>(rivals.end[decision]);
    if (end == begin) continue;
    const double weight = rivals.weight[decision];
    log_partition(std::span(logits).subspan(begin, end - begin), share.data() + begin);
    std::fill(mean.begin(), mean.end(), 0.0);
    for (size_t rival = begin; rival < end; ++rival) {
      const double* row = rivals.slope.data() + rival * width;
      for (size_t i = 0; i < width; ++i) mean[i] += share[rival] * row[i];
      if (end - begin > 1) add_square(row, weight * share[rival]);
    }
    if (end - begin > 1) {
      add_square(mean.data(), -weight);
    } else {  // s (1 - s) without cancellation
      add_square(rivals.slope.data() + begin * width, weight * share[begin] * (1.0 - share[begin]));
    }
    for (size_t i = 0; i < width; ++i) d.gradient[i] -= weight * mean[i];
    begin = end;
  }
  for (size_t i = 0; i < width; ++i) {
    d.gradient[i] -= ridge * step[i];
    d.curvature[i * width + i] += ridge;
  }
  return d;
}

}  // namespace

Rivals make_rivals(const Decisions& center, std::span<const Decisions* const> probes, double length) {
  Rivals rivals;
  rivals.directions = static_cast<int32_t>(probes.size());
  const auto items = static_cast<double>(center.item_end.size());
  int32_t begin = 0, end = 0;
  for (size_t item = 0; item < center.item_end.size(); ++item) {
    const int32_t values = center.item_end[item] - begin;
    if (center.right[item] >= 0) {
      end += values - 1;
      rivals.end.push_back(end);
      rivals.weight.push_back(1.0 / items);
    } else {
      for (int32_t token = 0; token < values; ++token) {
        rivals.end.push_back(++end);
        rivals.weight.push_back(1.0 / (items * static_cast<double>(values)));
      }
    }
    begin = center.item_end[item];
  }
  rivals.logit = rival_logits(center);
  const size_t width = probes.size();
  rivals.slope.assign(rivals.logit.size() * width, 0.0);
  for (size_t direction = 0; direction < width; ++direction) {
    const Decisions& probe = *probes[direction];
    if (probe.item_end != center.item_end || probe.right != center.right) {
      throw Error(ExitCode::kRuntime, "search", "candidates of one generation answered different decisions");
    }
    const std::vector<double> moved = rival_logits(probe);
    for (size_t rival = 0; rival < moved.size(); ++rival) {
      const double slope = (moved[rival] - rivals.logit[rival]) / length;
      rivals.slope[rival * width + direction] = std::isfinite(slope) ? slope : 0.0;
    }
  }
  for (double& logit : rivals.logit) {
    if (!std::isfinite(logit)) logit = 0.0;
  }
  return rivals;
}

double expected_loglik(const Rivals& rivals, std::span<const double> step, double ridge) {
  return objective(rivals, step, ridge);
}

std::vector<double> ridge_step(const Rivals& rivals, double ridge, int32_t iterations) {
  std::vector<double> step(static_cast<size_t>(rivals.directions), 0.0);
  double value = objective(rivals, step, ridge);
  for (int32_t iteration = 0; iteration < iterations; ++iteration) {
    Derivatives d = differentiate(rivals, step, ridge);
    if (!solve_positive(&d.curvature, &d.gradient)) break;
    double factor = 1.0;
    std::vector<double> next = step;
    double next_value = value;
    int halving = 0;
    for (; halving < kHalvings; ++halving, factor *= 0.5) {
      for (size_t i = 0; i < step.size(); ++i) next[i] = step[i] + factor * d.gradient[i];
      next_value = objective(rivals, next, ridge);
      if (next_value >= value) break;
    }
    if (halving == kHalvings) break;
    const bool settled = next_value - value < 1e-10 * std::max(1.0, std::abs(value));
    step = std::move(next);
    value = next_value;
    if (settled) break;
  }
  return step;
}

Quadratic quadratic_at_zero(const Rivals& rivals) {
  const auto width = static_cast<size_t>(rivals.directions);
  Derivatives d = differentiate(rivals, std::vector<double>(width, 0.0), 0.0);
  for (size_t i = 0; i < width; ++i) {
    for (size_t j = i + 1; j < width; ++j) d.curvature[i * width + j] = d.curvature[j * width + i];
  }
  return {std::move(d.gradient), std::move(d.curvature)};
}

std::vector<double> item_means(const Decisions& decisions) {
  const std::vector<double> logits = rival_logits(decisions);
  std::vector<double> means;
  size_t begin = 0, rival = 0;
  for (size_t item = 0; item < decisions.item_end.size(); ++item) {
    const auto end = static_cast<size_t>(decisions.item_end[item]);
    double sum = 0.0;
    if (decisions.right[item] < 0) {
      for (size_t i = begin; i < end; ++i) sum += static_cast<double>(decisions.values[i]);
      sum /= static_cast<double>(end - begin);
      rival += end - begin;
    } else if (end - begin > 1) {
      sum = -log_partition(std::span(logits).subspan(rival, end - begin - 1), nullptr);
      rival += end - begin - 1;
    }
    means.push_back(sum);
    begin = end;
  }
  return means;
}

bool factor_positive(std::vector<double>* a, size_t n) {
  double* m = a->data();
  for (size_t j = 0; j < n; ++j) {
    double pivot = m[j * n + j];
    for (size_t k = 0; k < j; ++k) pivot -= m[j * n + k] * m[j * n + k];
    if (!(pivot > 0.0)) return false;
    pivot = std::sqrt(pivot);
    m[j * n + j] = pivot;
    for (size_t i = j + 1; i < n; ++i) {
      double sum = m[i * n + j];
      for (size_t k = 0; k < j; ++k) sum -= m[i * n + k] * m[j * n + k];
      m[i * n + j] = sum / pivot;
    }
  }
  return true;
}

bool solve_positive(std::vector<double>* a, std::vector<double>* b) {
  const size_t n = b->size();
  if (!factor_positive(a, n)) return false;
  const double* m = a->data();
  double* x = b->data();
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) x[i] -= m[i * n + k] * x[k];
    x[i] /= m[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) x[i] -= m[k * n + i] * x[k];
    x[i] /= m[i * n + i];
  }
  return true;
}

}  // namespace eep
