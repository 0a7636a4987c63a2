// The ops in plain double-precision loops, one formula each, and with every value the bound on what an f32
// implementation may be off by. u = 2^-24 is the unit roundoff of f32; a chain of n fused multiply-adds of
// a_i b_i is off by at most gamma_n(n) sum |a_i b_i| (Higham, "Accuracy and Stability", 3.1).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/support.h"

namespace eep::test {

inline constexpr double kUnit = 0x1p-24;
inline constexpr double kTiny = 0x1p-126;  // below the normal numbers relative bounds end

inline double gamma_n(double n) { return n * kUnit / (1 - n * kUnit); }

// sum_k a[k] b[k] in order
inline Bounded dot(const float* a, const float* b, int64_t n, int64_t b_stride = 1) {
  double sum = 0, magnitude = 0;
  for (int64_t k = 0; k < n; ++k) {
    const double product = static_cast<double>(a[k]) * static_cast<double>(b[k * b_stride]);
    sum += product;
    magnitude += std::fabs(product);
  }
  return {sum, gamma_n(static_cast<double>(n)) * magnitude + kTiny};
}

// out[m, n] = sum_k x[m, k] w[n, k] (+ bias[n]) (+ old[m, n]); chain: the dot product with its bound, as
// dot()
template <typename Chain>
std::vector<Bounded> gemm_of(const Chain& chain, const Floats& x, const Floats& w, int64_t rows, int64_t n,
                             int64_t k, const Floats& bias, const Floats& old) {
  std::vector<Bounded> out;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      Bounded value = chain(&x[static_cast<size_t>(row * k)], &w[static_cast<size_t>(column * k)], k);
      double magnitude = std::fabs(value.expected);
      for (const Floats* term : {&bias, &old}) {
        if (term->empty()) continue;
        const double addend =
            static_cast<double>((*term)[static_cast<size_t>(term == &bias ? column : row * n + column)]);
        value.expected += addend;
        magnitude += std::fabs(addend);
      }
      value.bound += 2 * kUnit * (magnitude + value.bound);
      out.push_back(value);
    }
  }
  return out;
}

inline std::vector<Bounded> gemm(const Floats& x, const Floats& w, int64_t rows, int64_t n, int64_t k,
                                 const Floats& bias = {}, const Floats& old = {}) {
  return gemm_of([](const float* a, const float* b, int64_t length) { return dot(a, b, length); }, x, w, rows,
                 n, k, bias, old);
}

// y = x / sqrt(mean(x^2) + eps) * weight: the mean is within gamma_n(dim), halved by the root; four roundings
// more
inline std::vector<Bounded> rmsnorm(const Floats& x, const Floats& weight, int64_t rows, int64_t dim,
                                    double eps) {
  std::vector<Bounded> out;
  for (int64_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (int64_t i = 0; i < dim; ++i)
      squares += std::pow(static_cast<double>(x[static_cast<size_t>(row * dim + i)]), 2);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) {
      const double y = static_cast<double>(x[static_cast<size_t>(row * dim + i)]) * scale *
                       static_cast<double>(weight[static_cast<size_t>(i)]);
      out.push_back({y, gamma_n(static_cast<double>(dim) / 2 + 8) * std::fabs(y) + kTiny});
    }
  }
  return out;
}

// (a, b) -> (a cos - b sin, b cos + a sin)
inline std::vector<Bounded> rope(const Floats& x, int64_t rows, int64_t heads, int64_t head_dim,
                                 const std::vector<int32_t>& position, const Floats& cosine,
                                 const Floats& sine) {
  std::vector<Bounded> out(x.size());
  const int64_t pairs = head_dim / 2;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < pairs; ++i) {
        const size_t low = static_cast<size_t>((row * heads + head) * head_dim + i);
        const size_t high = low + static_cast<size_t>(pairs);
        const size_t at = static_cast<size_t>(position[static_cast<size_t>(row)] * pairs + i);
        const double a = static_cast<double>(x[low]), b = static_cast<double>(x[high]);
        const double c = static_cast<double>(cosine[at]), s = static_cast<double>(sine[at]);
        out[low] = {a * c - b * s, gamma_n(2) * (std::fabs(a * c) + std::fabs(b * s)) + kTiny};
        out[high] = {b * c + a * s, gamma_n(2) * (std::fabs(b * c) + std::fabs(a * s)) + kTiny};
      }
    }
  }
  return out;
}

// softmax over values
inline std::vector<double> softmax(const std::vector<double>& values) {
  const double highest = *std::max_element(values.begin(), values.end());
  std::vector<double> out;
  double total = 0;
  for (double value : values) out.push_back(std::exp(value - highest));
  for (double e : out) total += e;
  for (double& e : out) e /= total;
  return out;
}

// log softmax of row x at `target`. The logits are off by e = max of their bounds, which moves the result by
// at most 2 e; the sum of exponentials by gamma_n(n / 16 + 80) + 8u + u (m - logit) relative; three roundings
// more.
struct ScoreReference {
  Bounded log_probability;
  double highest = 0;
  std::vector<Bounded> logits;
};
inline ScoreReference score(const float* x, const Floats& w, int64_t vocabulary, int64_t hidden,
                            int32_t target) {
  ScoreReference out;
  double worst = 0, sum = 0;
  out.highest = -1e300;
  for (int64_t v = 0; v < vocabulary; ++v) {
    out.logits.push_back(dot(x, &w[static_cast<size_t>(v * hidden)], hidden));
    worst = std::max(worst, out.logits.back().bound);
    out.highest = std::max(out.highest, out.logits.back().expected);
  }
  for (const Bounded& logit : out.logits) sum += std::exp(logit.expected - out.highest);
  if (target < 0) return out;
  const double difference = out.logits[static_cast<size_t>(target)].expected - out.highest;
  out.log_probability.expected = difference - std::log(sum);
  out.log_probability.bound =
      2 * worst + gamma_n(static_cast<double>(vocabulary) / 16 + 80) + 40 * kUnit +
      4 * kUnit * (std::fabs(difference) + std::fabs(std::log(sum)) + std::fabs(out.highest));
  return out;
}

}  // namespace eep::test
