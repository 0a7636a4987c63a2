// attention on the host executor: values within the bound in every schedule, and bits that do not depend on
// runs, spans, tiles or alignment.
#include <limits>
#include <memory>

#include "kernels/attention.h"
#include "kernels/error.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_support.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

// One query against keys [first, last], with products of values split into two bf16: each split leaves
// 2^-16 of its value, lo lo is left out: 3 * 2^-16 (and higher orders) of a product's magnitude. Each of the
// three sums that a product brings is off by at most 2 u of the magnitude (gpu_matrices.h). So a score is off
// by e = (kSplit + gamma(6 d) + 2 u) |scale| sum |q k|; its exponential by a factor within exp(e) - 1 + 8 u +
// u |s - m|, in numerator and denominator; the values bring kSplit and gamma(6 keys) more.
constexpr double kSplit = 3.1 * 0x1p-16;
std::vector<Bounded> attend_split(const float* q, const float* k, const float* v, int64_t head_dim,
                                  int64_t stride, int64_t first, int64_t last, double scale) {
  std::vector<double> score;
  double worst = 0, highest = -1e300, lowest = 1e300;
  for (int64_t p = first; p <= last; ++p) {
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < head_dim; ++i) {
      const double product = static_cast<double>(q[i]) * static_cast<double>(k[p * stride + i]);
      sum += product;
      magnitude += std::fabs(product);
    }
    score.push_back(sum * scale);
    const double relative = kSplit + gamma_n(6 * static_cast<double>(head_dim + 16)) + 2 * kUnit;
    worst = std::max(worst, relative * magnitude * std::fabs(scale));
    highest = std::max(highest, score.back());
    lowest = std::min(lowest, score.back());
  }
  double total = 0;
  for (double& s : score) total += s = std::exp(s - highest);
  const double keys = static_cast<double>(last - first + 1);
  const double factor = std::expm1(2 * worst) + 8 * kUnit + kUnit * (highest - lowest);
  const double relative = 2 * factor + kSplit + gamma_n(6 * (keys + 64)) + 2 * gamma_n(keys + 16);
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

// One sequence; every row is a query and a key. Each span is memory of its own.
struct Sequence {
  AttentionCase c;
  Floats q, k, v;

  explicit Sequence(const AttentionCase& case_, float scale = 1.0f) : c(case_) {
    Data data(c.seed);
    q = data.floats(c.length * c.heads * c.head_dim, 2.0f * scale);
    k = data.floats(c.length * c.kv_heads * c.head_dim, 2.0f * scale);
    v = data.floats(c.length * c.kv_heads * c.head_dim);
  }
  int64_t width() const { return c.heads * c.head_dim; }
  int64_t kv_width() const { return c.kv_heads * c.head_dim; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(c.head_dim)); }
  Floats rows(const Floats& all, int64_t row_width, int64_t begin, int64_t end) const {
    return Floats(all.begin() + begin * row_width, all.begin() + end * row_width);
  }

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
    a.scale = scale();
    a.out = out;
    return a;
  }

  // Queries of rows [begin, end), keys cut into spans at `cuts` (ascending); shift: floats by which every
  // pointer is moved.
  Floats run(int64_t begin, int64_t end, const std::vector<int64_t>& cuts, int64_t shift = 0) const {
    std::vector<std::unique_ptr<OnDevice<float>>> memory;
    const auto place = [&](const Floats& values) {
      Floats moved(static_cast<size_t>(shift));
      moved.insert(moved.end(), values.begin(), values.end());
      memory.push_back(std::make_unique<OnDevice<float>>(moved));
      return memory.back()->data() + shift;
    };
    std::vector<KvSpan> spans;
    int64_t from = 0;
    for (size_t i = 0; i <= cuts.size() && from < end; ++i) {
      const int64_t to = i < cuts.size() ? std::min(cuts[i], end) : end;
      spans.push_back(
          {place(rows(k, kv_width(), from, to)), place(rows(v, kv_width(), from, to)), to - from});
      from = to;
    }
    AttentionRun only;
    only.query_rows = end - begin;
    only.first_position = begin;
    only.span_count = static_cast<int64_t>(spans.size());
    const OnDevice<float> out((end - begin) * width(), NAN);
    GPU_ROW(attention)
    (args({only}, spans, place(rows(q, width(), begin, end)), out.data()), gpu_device());
    return out.values();
  }

  std::vector<Bounded> expected() const {
    std::vector<Bounded> out;
    for (int64_t row = 0; row < c.length; ++row) {
      const int64_t first = c.window > 0 ? std::max<int64_t>(0, row - c.window + 1) : 0;
      for (int64_t head = 0; head < c.heads; ++head) {
        const int64_t kv = head / (c.heads / c.kv_heads) * c.head_dim;
        const auto values =
            attend_split(q.data() + row * width() + head * c.head_dim, k.data() + kv, v.data() + kv,
                         c.head_dim, kv_width(), first, row, static_cast<double>(scale()));
        out.insert(out.end(), values.begin(), values.end());
      }
    }
    return out;
  }
};

}  // namespace

TEST_CASE("gpu attention: within the bound, same bits in every schedule and any cut of queries and keys") {
  for (const AttentionCase& c : kAttentionCases) {
    CAPTURE(c.seed);
    const Sequence s(c);
    const Floats out = same_bits_in_schedules([&] { return s.run(0, c.length, {}); });
    check_bounded(out, s.expected());
    for (int64_t batch : {1, 33}) {
      if (batch > c.length) break;
      const int64_t step = std::max<int64_t>(1, (c.length - batch) / 2);
      for (int64_t first = 0; first + batch <= c.length; first += step) {
        CAPTURE(batch);
        CAPTURE(first);
        const Floats part = s.run(first, first + batch, {first, first + batch / 2});
        CHECK(same_bits(part.data(), out.data() + first * s.width(), batch * s.width()));
      }
    }
    for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{1}, {7, 7, 7, 64, 65, 129}}) {
      CHECK(same_bits(s.run(0, c.length, cuts), out));
    }
    CHECK(same_bits(s.run(0, c.length, {}, 1), out));
  }
}

TEST_CASE("gpu attention: many runs in one call, decode rows among prefill") {
  for (const AttentionCase& c : kAttentionCases) {
    if (c.seed % 3 != 0) continue;  // four of them
    CAPTURE(c.seed);
    const Sequence s(c);
    const Floats whole = s.run(0, c.length, {});
    const OnDevice<float> k(s.k), v(s.v);
    const auto span = [&](int64_t begin, int64_t end) {
      return KvSpan{k.data() + begin * s.kv_width(), v.data() + begin * s.kv_width(), end - begin};
    };
    // Run r: the last `rows` rows of a prefix; its keys lie in a cached span and in its own. Every third run
    // has no rows.
    std::vector<AttentionRun> runs;
    std::vector<KvSpan> spans;
    Floats queries, expected;
    Data data(c.seed + 500);
    for (int r = 0; r < 9; ++r) {
      const int64_t end = 1 + data.below(c.length);
      const int64_t rows = r % 3 == 2 ? 0 : r % 3 == 1 ? 1 : 1 + data.below(end);
      AttentionRun run;
      run.query_begin = static_cast<int64_t>(queries.size()) / s.width();
      run.query_rows = rows;
      run.first_position = end - rows;
      run.span_begin = static_cast<int64_t>(spans.size());
      run.span_count = 2;
      spans.push_back(span(0, end - rows));
      spans.push_back(span(end - rows, end));
      runs.push_back(run);
      queries.insert(queries.end(), s.q.begin() + (end - rows) * s.width(), s.q.begin() + end * s.width());
      expected.insert(expected.end(), whole.begin() + (end - rows) * s.width(),
                      whole.begin() + end * s.width());
    }
    const OnDevice<float> q(queries);
    const Floats out = same_bits_in_schedules([&] {
      const OnDevice<float> result(static_cast<int64_t>(queries.size()), NAN);
      GPU_ROW(attention)(s.args(runs, spans, q.data(), result.data()), gpu_device());
      return result.values();
    });
    CHECK(same_bits(out, expected));
  }
}

TEST_CASE("gpu attention: large scores leave one key, sums stay finite") {
  const Sequence s(AttentionCase{2, 1, 32, 150, 0, 53}, 30.0f);
  check_bounded(s.run(0, 150, {}), s.expected());
}

TEST_CASE("gpu attention: what a row must not see does not reach it, not even infinity or NaN") {
  for (int64_t window : {0, 20}) {
    const AttentionCase c{2, 2, 32, 100, window, 54};
    const Sequence clean(c);
    const Floats expected = clean.run(0, c.length, {});
    for (float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      for (int64_t at : {10, 40, 99}) {
        Sequence s(c);
        for (int64_t i = 0; i < s.kv_width(); ++i) {
          s.v[static_cast<size_t>(at * s.kv_width() + i)] = poison;
          s.k[static_cast<size_t>(at * s.kv_width() + i)] = poison;
        }
        const Floats out = s.run(0, c.length, {});
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

TEST_CASE("gpu attention: more heads for a kv head than a few tile has vectors") {
  const Sequence s(AttentionCase{20, 1, 16, 70, 0, 58});
  const Floats out = s.run(0, 70, {});
  check_bounded(out, s.expected());
  CHECK(same_bits(s.run(69, 70, {69}).data(), out.data() + 69 * s.width(), s.width()));
}

TEST_CASE("gpu attention: the largest heads, and larger ones are refused") {
  const Sequence largest(AttentionCase{2, 1, 256, 70, 0, 55});
  check_bounded(same_bits_in_schedules([&] { return largest.run(0, 70, {}); }), largest.expected());
  const Sequence grouped(AttentionCase{17, 1, 256, 2, 0, 57});
  CHECK(throws_with([&] { grouped.run(0, 2, {}); }, "expected at most 256 and 16, got 256 and 17"));
  const Sequence larger(AttentionCase{1, 1, 257, 2, 0, 56});
  CHECK(throws_with([&] { larger.run(0, 2, {}); }, "got 257 and 1"));
}
