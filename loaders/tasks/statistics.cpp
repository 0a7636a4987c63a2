#include "loaders/tasks/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels/common/philox.h"

namespace eep {

double mean(std::span<const double> values) {
  double sum = 0;
  for (double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double standard_error(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double centre = mean(values), n = static_cast<double>(values.size());
  double squares = 0;
  for (double value : values) squares += (value - centre) * (value - centre);
  return std::sqrt(squares / (n - 1) / n);
}

Interval wilson_interval(double successes, double n) {
  if (n <= 0) return {0, 1};
  constexpr double z = 1.959963984540054;  // 97.5% quantile of the normal distribution
  const double p = successes / n, centre = p + z * z / (2 * n), denominator = 1 + z * z / n;
  const double half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return {successes <= 0 ? 0.0 : std::max(0.0, (centre - half) / denominator),
          successes >= n ? 1.0 : std::min(1.0, (centre + half) / denominator)};
}

Interval normal_interval(double mean, double standard_error) {
  return {std::max(0.0, mean - 1.959963984540054 * standard_error),
          std::min(1.0, mean + 1.959963984540054 * standard_error)};
}

std::optional<Ratio> paired_ratio(std::span<const double> a, std::span<const double> b) {
  const double base = mean(b);
  if (a.size() != b.size() || !(base > 0)) return std::nullopt;
  Ratio ratio;
  ratio.value = mean(a) / base;
  std::vector<double> rest(a.size());
  for (size_t i = 0; i < a.size(); ++i) rest[i] = a[i] - ratio.value * b[i];
  const double half = 1.96 * standard_error(rest) / base;
  ratio.ci95 = {std::max(0.0, ratio.value - half), ratio.value + half};
  return ratio;
}

double mcnemar_exact(std::span<const double> a, std::span<const double> b) {
  int64_t only_a = 0, only_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    only_a += a[i] > b[i];
    only_b += b[i] > a[i];
  }
  const int64_t n = only_a + only_b, k = std::min(only_a, only_b);
  if (n == 0) return 1;
  double tail = 0;  // P(X <= k), X ~ Binomial(n, 1/2)
  for (int64_t i = 0; i <= k; ++i) {
    const double x = static_cast<double>(n), y = static_cast<double>(i);
    tail += std::exp(std::lgamma(x + 1) - std::lgamma(y + 1) - std::lgamma(x - y + 1) - x * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

double paired_permutation(std::span<const double> a, std::span<const double> b, uint64_t seed) {
  std::vector<double> differences;
  double observed = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    differences.push_back(a[i] - b[i]);
    observed += differences.back();
  }
  constexpr uint32_t kDraws = 9999;
  uint32_t as_large = 1;
  const double limit = std::fabs(observed) * (1 - 1e-12);  // equal sums in another order
  for (uint32_t draw = 0; draw < kDraws; ++draw) {
    double sum = 0;
    std::array<uint32_t, 4> words{};  // the signs of 128 items
    for (size_t i = 0; i < differences.size(); ++i) {
      const uint32_t block = static_cast<uint32_t>(i / 128), bit = static_cast<uint32_t>(i % 128);
      if (bit == 0) words = philox({draw, block, 0, 0}, seed);
      sum += (words[bit / 32] >> (bit % 32)) & 1u ? differences[i] : -differences[i];
    }
    as_large += std::fabs(sum) >= limit;
  }
  return static_cast<double>(as_large) / (kDraws + 1);
}

}  // namespace eep
