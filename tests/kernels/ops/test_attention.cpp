// attention: values within the bound, and bits that do not depend on runs, spans, tiles, alignment, threads
// or targets.
#include <limits>

#include "kernels/attention_schedule.h"
#include "kernels/common/error.h"
#include "tests/kernels/ops/attention_problem.h"

using namespace eep;
using namespace eep::test;

namespace {

// Rows alone and in batches, with the keys cut in two or three.
template <class Row>
void check_batches(const Sequence<Row>& s, const Floats& whole) {
  Row::same_in_batches(
      whole, s.c.length, s.width(),
      [&](int64_t first, int64_t rows) {
        return s.run(first, first + rows, {first, first + rows / 2});
      },
      {1, 33}, 2);
}

}  // namespace

EVERY_ROW("attention: within the bound, same bits everywhere, in any cut of queries and keys") {
  std::vector<std::vector<int64_t>> cuts{{1}, {7, 7, 7, 64, 65, 129}};
  if (Row::kHost) cuts.insert(cuts.end(), {{3, 5, 64}, {7, 7, 7, 100}, {64}, {63, 65, 128, 129}});
  for (const AttentionCase& c : kAttentionCases) {
    CAPTURE(c.seed);
    const Sequence<Row> s(c);
    const Floats out = s.run_everywhere();
    check_bounded(out, s.expected());
    check_batches(s, out);
    for (const std::vector<int64_t>& cut : cuts) CHECK(same_bits(s.run(0, c.length, cut), out));
    CHECK(same_bits(s.run(0, c.length, {}, 1), out));
  }
}

EVERY_ROW("attention: a head's sink is one more logit of its softmax, in any cut of queries and keys") {
  for (const AttentionCase& c : kAttentionCases) {
    CAPTURE(c.seed);
    Sequence<Row> s(c);
    s.sinks = Data(c.seed + 100).floats(c.heads, 6.0f);
    const Floats out = s.run_everywhere();
    check_bounded(out, s.expected());
    check_batches(s, out);
  }
}

EVERY_ROW("attention: many runs in one call, decode rows among prefill") {
  for (const AttentionCase& c : kAttentionCases) {
    if (!Row::kHost && c.seed % 3 != 0) continue;  // four of them: the host executor is slow
    CAPTURE(c.seed);
    const Sequence<Row> s(c);
    const Input<Row, float> k(s.k), v(s.v);
    const auto span = [&](int64_t begin, int64_t end) {
      return KvSpan{k.data() + begin * s.kv_width(), v.data() + begin * s.kv_width(), end - begin};
    };
    const ManyRuns many(s, s.run(0, c.length), span);
    const Input<Row, float> q(many.queries);
    const Floats out = Row::same_bits([&](const Device& device) {
      const Output<Row, float> result(static_cast<int64_t>(many.queries.size()), NAN);
      call(Row(), s.args(many.runs, many.spans, q.data(), nullptr, result.data()), device);
      return result.values();
    });
    CHECK(same_bits(out, many.expected));
  }
}

EVERY_ROW("attention: large scores leave one key, sums stay finite") {
  const Sequence<Row> s(AttentionCase{2, 1, 32, 150, 0, 53}, 30.0f);
  check_bounded(s.run_everywhere(), s.expected());
}

EVERY_ROW("attention: what a row must not see does not reach it, not even infinity or NaN") {
  for (int64_t window : {0, 20}) {
    const AttentionCase c{2, 2, 32, 100, window, 54};
    const Floats expected = Sequence<Row>(c).run(0, c.length);
    for (float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      for (int64_t at : {10, 40, 99}) {
        Sequence<Row> s(c);
        for (int64_t i = 0; i < s.kv_width(); ++i) {
          s.v[static_cast<size_t>(at * s.kv_width() + i)] = poison;
          s.k[static_cast<size_t>(at * s.kv_width() + i)] = poison;
        }
        const Floats out = s.run(0, c.length);
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

// Heads and lengths of released models; a row of decoding has the bits of prefill.
EVERY_ROW("attention: full width") {
#ifdef EEP_TEST_CUDA
  const AttentionCase c{16, 4, 128, 500, 0, 59};
#else
  const AttentionCase c{8, 2, 128, 140, 0, 59};
#endif
  const Sequence<Row> s(c);
  const Floats whole = s.run(0, c.length);
  check_bounded(whole, s.expected());
  const int64_t last = c.length - 1;
  CHECK(same_bits(s.run(last, c.length, {100}).data(), whole.data() + last * s.width(), s.width()));
}

EVERY_ROW("attention: more heads for a kv head than a few tile of a GPU has vectors") {
  const Sequence<Row> s(AttentionCase{20, 1, 16, 70, 0, 58});
  const Floats out = s.run(0, 70);
  check_bounded(out, s.expected());
  CHECK(same_bits(s.run(69, 70, {69}).data(), out.data() + 69 * s.width(), s.width()));
}

TEST_CASE("attention: heads too large for its scratch are refused") {
  const Sequence<Cpu> s(AttentionCase{1, 1, kMaxHeadDim + 1, 2, 0, 55});
  CHECK_THROWS_AS(s.run(0, 2), Error);
}

TEST_CASE("gpu attention: the largest heads, and larger ones are refused") {
  const Sequence<Gpu> largest(AttentionCase{2, 1, 256, 70, 0, 55});
  check_bounded(largest.run_everywhere(), largest.expected());
  const Sequence<Gpu> grouped(AttentionCase{17, 1, 256, 2, 0, 57});
  CHECK(throws_with([&] { grouped.run(0, 2); }, "expected at most 256 and 16, got 256 and 17"));
  const Sequence<Gpu> larger(AttentionCase{1, 1, 257, 2, 0, 56});
  CHECK(throws_with([&] { larger.run(0, 2); }, "got 257 and 1"));
}
