// attention: values within the bound, and bits that do not depend on runs, spans, tiles, threads or targets.
#include "kernels/attention.h"
#include "kernels/attention_schedule.h"
#include "kernels/error.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

// One sequence; every row is a query and a key.
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
  KvSpan span(int64_t begin, int64_t end) const {
    return {k.data() + begin * kv_width(), v.data() + begin * kv_width(), end - begin};
  }

  // Queries of rows [begin, end), keys cut into spans at `cuts` (ascending, within (0, end)).
  Floats run(int64_t begin, int64_t end, const std::vector<int64_t>& cuts, const Device& device) const {
    std::vector<KvSpan> spans;
    int64_t from = 0;
    for (int64_t cut : cuts) {
      if (cut >= end) break;
      spans.push_back(span(from, cut));
      from = cut;
    }
    spans.push_back(span(from, end));
    AttentionRun only;
    only.query_rows = end - begin;
    only.first_position = begin;
    only.span_count = static_cast<int64_t>(spans.size());
    Floats out(static_cast<size_t>((end - begin) * width()));
    attention_cpu(args(&only, 1, spans.data(), q.data() + begin * width(), out.data()), device);
    return out;
  }

  AttentionArgs args(const AttentionRun* runs, int64_t run_count, const KvSpan* spans, const float* queries,
                     float* out) const {
    AttentionArgs a;
    a.q = queries;
    a.runs = runs;
    a.run_count = run_count;
    a.spans = spans;
    a.heads = c.heads;
    a.kv_heads = c.kv_heads;
    a.head_dim = c.head_dim;
    a.window = c.window;
    a.scale = scale();
    a.out = out;
    return a;
  }

  std::vector<Bounded> expected() const {
    std::vector<Bounded> out;
    for (int64_t row = 0; row < c.length; ++row) {
      const int64_t first = c.window > 0 ? std::max<int64_t>(0, row - c.window + 1) : 0;
      for (int64_t head = 0; head < c.heads; ++head) {
        const int64_t kv = head / (c.heads / c.kv_heads) * c.head_dim;
        const auto values = attend(q.data() + row * width() + head * c.head_dim, k.data() + kv, v.data() + kv,
                                   c.head_dim, kv_width(), first, row, static_cast<double>(scale()));
        out.insert(out.end(), values.begin(), values.end());
      }
    }
    return out;
  }
};

}  // namespace

TEST_CASE("attention: within the bound, same bits on every target, in any cut of queries and keys") {
  for (const AttentionCase& c : kAttentionCases) {
    CAPTURE(c.seed);
    const Sequence s(c);
    const Floats out =
        same_bits_everywhere([&](const Device& device) { return s.run(0, c.length, {}, device); });
    check_bounded(out, s.expected());
    same_bits_in_batches(out, c.length, s.width(), [&](int64_t first, int64_t rows) {
      return s.run(first, first + rows, {first, first + rows / 2}, cpu(1));
    });
    for (const std::vector<int64_t>& cuts :
         {std::vector<int64_t>{1}, {3, 5, 64}, {7, 7, 7, 100}, {64}, {63, 65, 128, 129}}) {
      CHECK(same_bits(s.run(0, c.length, cuts, cpu(2)), out));
    }
  }
}

TEST_CASE("attention: many runs in one call, decode rows among prefill") {
  for (const AttentionCase& c : kAttentionCases) {
    CAPTURE(c.seed);
    const Sequence s(c);
    const Floats whole = s.run(0, c.length, {}, cpu(1));
    // Run r: the last `rows` rows of a prefix; its keys lie in a cached span and in its own.
    std::vector<AttentionRun> runs;
    std::vector<KvSpan> spans;
    Floats queries, expected;
    Data data(c.seed + 500);
    for (int r = 0; r < 9; ++r) {
      const int64_t end = 1 + data.below(c.length);
      const int64_t rows = r % 2 ? 1 : 1 + data.below(end);
      AttentionRun run;
      run.query_begin = static_cast<int64_t>(queries.size()) / s.width();
      run.query_rows = rows;
      run.first_position = end - rows;
      run.span_begin = static_cast<int64_t>(spans.size());
      run.span_count = 2;
      spans.push_back(s.span(0, end - rows));
      spans.push_back(s.span(end - rows, end));
      runs.push_back(run);
      queries.insert(queries.end(), s.q.begin() + (end - rows) * s.width(), s.q.begin() + end * s.width());
      expected.insert(expected.end(), whole.begin() + (end - rows) * s.width(),
                      whole.begin() + end * s.width());
    }
    const Floats out = same_bits_everywhere([&](const Device& device) {
      Floats result(queries.size());
      attention_cpu(
          s.args(runs.data(), static_cast<int64_t>(runs.size()), spans.data(), queries.data(), result.data()),
          device);
      return result;
    });
    CHECK(same_bits(out, expected));
  }
}

TEST_CASE("attention: large scores leave one key, sums stay finite") {
  const Sequence s(AttentionCase{2, 1, 32, 150, 0, 53}, 30.0f);
  const Floats out = same_bits_everywhere([&](const Device& device) { return s.run(0, 150, {}, device); });
  check_bounded(out, s.expected());
}

TEST_CASE("attention: what a row must not see does not reach it, not even infinity or NaN") {
  for (int64_t window : {0, 20}) {
    const AttentionCase c{2, 2, 32, 100, window, 54};
    const Sequence clean(c);
    const Floats expected = clean.run(0, c.length, {}, cpu(1));
    for (float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      for (int64_t at : {10, 40, 99}) {
        Sequence s(c);
        for (int64_t i = 0; i < s.kv_width(); ++i) {
          s.v[static_cast<size_t>(at * s.kv_width() + i)] = poison;
          s.k[static_cast<size_t>(at * s.kv_width() + i)] = poison;
        }
        const Floats out = s.run(0, c.length, {}, cpu(1));
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

TEST_CASE("attention: heads too large for its scratch are refused") {
  const Sequence s(AttentionCase{1, 1, kMaxHeadDim + 1, 2, 0, 55});
  CHECK_THROWS_AS(s.run(0, 2, {}, cpu(1)), Error);
}
