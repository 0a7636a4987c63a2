// Attention in double precision with the bounds of each backend's arithmetic, and what the tests of both
// share: a sequence, runs of decoding and prefill over it, values that must not reach other rows.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

namespace eep::test {

// How far f32 chains take a result: `product` of a score's magnitude sum |q k|, `rounding` of the score
// itself (both for a score before scale), `value` of the magnitude of the weighted sum.
struct AttentionError {
  double product, rounding, value;
};

// One query against keys [first, last]: out = sum_p softmax_p(q . k_p scale) v_p. A score is off by e; its
// exponential by a factor within 2 e + 8 u + u |s - m| (difference, polynomial), in numerator and
// denominator; the chains over the keys and the rescalings bring 2 gamma_n(keys). A sink is an exact score of
// no value.
inline std::vector<Bounded> attend(const float* q, const float* k, const float* v, int64_t head_dim,
                                   int64_t stride, int64_t first, int64_t last, double scale,
                                   const AttentionError& error, const float* sink = nullptr) {
  std::vector<double> score;
  double worst = 0, highest = -1e300, lowest = 1e300;
  if (sink != nullptr) highest = lowest = static_cast<double>(*sink);
  for (int64_t p = first; p <= last; ++p) {
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < head_dim; ++i) {
      const double product = static_cast<double>(q[i]) * static_cast<double>(k[p * stride + i]);
      sum += product;
      magnitude += std::fabs(product);
    }
    score.push_back(sum * scale);
    worst = std::max(
        worst, (error.product * magnitude + error.rounding * std::fabs(sum) + kTiny) * std::fabs(scale));
    highest = std::max(highest, score.back());
    lowest = std::min(lowest, score.back());
  }
  double total = sink != nullptr ? std::exp(static_cast<double>(*sink) - highest) : 0;
  for (double& s : score) total += s = std::exp(s - highest);
  const double keys = static_cast<double>(last - first + 1);
  const double factor = std::expm1(2 * worst) + 8 * kUnit + kUnit * (highest - lowest);
  const double relative = 2 * factor + error.value + 2 * gamma_n(keys + 16);
  std::vector<Bounded> out;
  for (int64_t i = 0; i < head_dim; ++i) {
    double sum = 0, magnitude = 0;
    for (int64_t p = first; p <= last; ++p) {
      const double term = score[static_cast<size_t>(p - first)] * static_cast<double>(v[p * stride + i]);
      sum += term;
      magnitude += std::fabs(term);
    }
    out.push_back({sum / total, relative * magnitude / total + kTiny});
  }
  return out;
}

// One sequence; every row is a query and a key.
struct AttentionSequence {
  AttentionCase c;
  Floats q, k, v;
  Floats sinks;  // [heads], or nothing

  explicit AttentionSequence(const AttentionCase& case_, float scale = 1.0f) : c(case_) {
    Data data(c.seed);
    q = data.floats(c.length * c.heads * c.head_dim, 2.0f * scale);
    k = data.floats(c.length * c.kv_heads * c.head_dim, 2.0f * scale);
    v = data.floats(c.length * c.kv_heads * c.head_dim);
  }
  int64_t width() const { return c.heads * c.head_dim; }
  int64_t kv_width() const { return c.kv_heads * c.head_dim; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(c.head_dim)); }

  AttentionArgs args(const std::vector<AttentionRun>& runs, const std::vector<KvSpan>& spans,
                     const float* queries, float* out) const {
    AttentionArgs a;
    a.q = queries;
    a.runs = runs.data();
    a.run_count = static_cast<int64_t>(runs.size());
    a.spans = spans.data();
    a.heads = c.heads;
    a.kv_heads = c.kv_heads;
    a.head_dim = c.head_dim;
    a.window = c.window;
    a.sinks = sinks.empty() ? nullptr : sinks.data();
    a.scale = scale();
    a.out = out;
    return a;
  }

  // error(keys): of a row that sees so many.
  template <class Error>
  std::vector<Bounded> expected(const Error& error) const {
    std::vector<Bounded> out;
    for (int64_t row = 0; row < c.length; ++row) {
      const int64_t first = c.window > 0 ? std::max<int64_t>(0, row - c.window + 1) : 0;
      for (int64_t head = 0; head < c.heads; ++head) {
        const int64_t kv = head / (c.heads / c.kv_heads) * c.head_dim;
        const auto values =
            attend(q.data() + row * width() + head * c.head_dim, k.data() + kv, v.data() + kv, c.head_dim,
                   kv_width(), first, row, static_cast<double>(scale()), error(row - first + 1),
                   sinks.empty() ? nullptr : &sinks[static_cast<size_t>(head)]);
        out.insert(out.end(), values.begin(), values.end());
      }
    }
    return out;
  }
};

// Nine runs, each the last rows of a prefix, whose keys lie in a cached span and in its own: prefill, a row
// of decoding, and none. `span(begin, end)` are keys and values of those rows, `whole` every row's output.
struct ManyRuns {
  std::vector<AttentionRun> runs;
  std::vector<KvSpan> spans;
  Floats queries, expected;

  template <class Span>
  ManyRuns(const AttentionSequence& s, const Floats& whole, const Span& span) {
    const int64_t width = s.width();
    Data data(s.c.seed + 500);
    for (int r = 0; r < 9; ++r) {
      const int64_t end = 1 + data.below(s.c.length);
      const int64_t rows = r % 3 == 2 ? 0 : r % 3 == 1 ? 1 : 1 + data.below(end);
      AttentionRun run;
      run.query_begin = static_cast<int64_t>(queries.size()) / width;
      run.query_rows = rows;
      run.first_position = end - rows;
      run.span_begin = static_cast<int64_t>(spans.size());
      run.span_count = 2;
      spans.push_back(span(0, end - rows));
      spans.push_back(span(end - rows, end));
      runs.push_back(run);
      queries.insert(queries.end(), s.q.begin() + (end - rows) * width, s.q.begin() + end * width);
      expected.insert(expected.end(), whole.begin() + (end - rows) * width, whole.begin() + end * width);
    }
  }
};

// What a row must not see does not reach it, not even infinity or NaN. Sequence: of a backend; run(sequence)
// its output.
template <class Sequence, class Run>
void check_unseen(const Run& run) {
  for (int64_t window : {0, 20}) {
    const AttentionCase c{2, 2, 32, 100, window, 54};
    const Floats expected = run(Sequence(c));
    for (float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      for (int64_t at : {10, 40, 99}) {
        Sequence s(c);
        for (int64_t i = 0; i < s.kv_width(); ++i) {
          s.v[static_cast<size_t>(at * s.kv_width() + i)] = poison;
          s.k[static_cast<size_t>(at * s.kv_width() + i)] = poison;
        }
        const Floats out = run(s);
        CHECK(same_bits(out.data(), expected.data(), at * s.width()));
        CHECK(!std::isfinite(out[static_cast<size_t>(at * s.width())]));
        if (window > 0 && at + window < c.length) {
          const int64_t after = (at + window) * s.width();
          CHECK(same_bits(out.data() + after, expected.data() + after, c.length * s.width() - after));
        }
      }
    }
  }
}

}  // namespace eep::test
