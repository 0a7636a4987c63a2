// Attention in double precision with the bounds of each row of the op table, a sequence, and runs of decoding
// and prefill over it.
#pragma once

#include "tests/kernels/ops/op_rows.h"

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
template <class Row>
struct Sequence {
  AttentionCase c;
  Floats q, k, v;
  Floats sinks;  // [heads], or nothing

  explicit Sequence(const AttentionCase& case_, float scale = 1.0f) : c(case_) {
    Data data(c.seed);
    q = data.floats(c.length * c.heads * c.head_dim, 2.0f * scale);
    k = data.floats(c.length * c.kv_heads * c.head_dim, 2.0f * scale);
    v = data.floats(c.length * c.kv_heads * c.head_dim);
  }
  int64_t width() const { return c.heads * c.head_dim; }
  int64_t kv_width() const { return c.kv_heads * c.head_dim; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(c.head_dim)); }

  AttentionArgs args(const std::vector<AttentionRun>& runs, const std::vector<KvSpan>& spans,
                     const float* queries, const float* sinks_in, float* out) const {
    AttentionArgs a;
    a.q = queries;
    a.runs = runs.data();
    a.run_count = static_cast<int64_t>(runs.size());
    a.spans = spans.data();
    a.heads = c.heads;
    a.kv_heads = c.kv_heads;
    a.head_dim = c.head_dim;
    a.window = c.window;
    a.sinks = sinks.empty() ? nullptr : sinks_in;
    a.scale = scale();
    a.out = out;
    return a;
  }

  // Queries of rows [begin, end), keys cut into spans at `cuts` (ascending); shift: floats by which every
  // pointer is moved. On a device each span is memory of its own.
  Floats run(int64_t begin, int64_t end, const std::vector<int64_t>& cuts = {}, int64_t shift = 0,
             const Device& device = Row::device()) const {
    std::vector<std::unique_ptr<Input<Row, float>>> memory;
    const auto place = [&](const Floats& all, int64_t row_width, int64_t from, int64_t to) {
      memory.push_back(
          std::make_unique<Input<Row, float>>(all, from * row_width, (to - from) * row_width, shift));
      return memory.back()->data();
    };
    std::vector<KvSpan> spans;
    int64_t from = 0;
    for (size_t i = 0; i <= cuts.size() && from < end; ++i) {
      const int64_t to = i < cuts.size() ? std::min(cuts[i], end) : end;
      spans.push_back({place(k, kv_width(), from, to), place(v, kv_width(), from, to), to - from});
      from = to;
    }
    AttentionRun only;
    only.query_rows = end - begin;
    only.first_position = begin;
    only.span_count = static_cast<int64_t>(spans.size());
    const std::vector<AttentionRun> runs{only};
    const int64_t heads = static_cast<int64_t>(sinks.size());
    const Output<Row, float> out((end - begin) * width(), NAN);
    call(Row(), args(runs, spans, place(q, width(), begin, end), place(sinks, 1, 0, heads), out.data()),
         device);
    return out.values();
  }
  Floats run_everywhere() const {
    return Row::same_bits([&](const Device& device) { return run(0, c.length, {}, 0, device); });
  }

  // On the CPU a chain of fma a score; the weighted mean brings no more than its chains. On a GPU products
  // of values split into two bf16: each split leaves 2^-16 of its value, lo lo is left out: 3 * 2^-16 (and
  // higher orders) of a product's magnitude. Each of the three sums that a product brings is off by at most
  // 2 u of the magnitude (gpu_matrices.h). The values bring as much more, over the keys.
  static AttentionError error(int64_t head_dim, int64_t keys) {
    if (Row::kHost) return {gamma_n(static_cast<double>(head_dim)), 2 * kUnit, 0};
    constexpr double kSplit = 3.1 * 0x1p-16;
    return {kSplit + gamma_n(6 * static_cast<double>(head_dim + 16)) + 2 * kUnit, 0,
            kSplit + gamma_n(6 * static_cast<double>(keys + 64))};
  }
  std::vector<Bounded> expected() const {
    std::vector<Bounded> out;
    for (int64_t row = 0; row < c.length; ++row) {
      const int64_t first = c.window > 0 ? std::max<int64_t>(0, row - c.window + 1) : 0;
      for (int64_t head = 0; head < c.heads; ++head) {
        const int64_t kv = head / (c.heads / c.kv_heads) * c.head_dim;
        const auto values =
            attend(q.data() + row * width() + head * c.head_dim, k.data() + kv, v.data() + kv, c.head_dim,
                   kv_width(), first, row, static_cast<double>(scale()), error(c.head_dim, row - first + 1),
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

  template <class Row, class Span>
  ManyRuns(const Sequence<Row>& s, const Floats& whole, const Span& span) {
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

}  // namespace eep::test
