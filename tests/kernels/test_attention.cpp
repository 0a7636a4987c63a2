// attention: values within the bound, and bits that do not depend on runs, spans, tiles, threads or targets.
#include "kernels/attention_schedule.h"
#include "kernels/common/error.h"
#include "tests/kernels/attention_reference.h"

using namespace eep;
using namespace eep::test;

namespace {

struct Sequence : AttentionSequence {
  using AttentionSequence::AttentionSequence;

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
    attention_cpu(args({only}, spans, q.data() + begin * width(), out.data()), device);
    return out;
  }

  // A chain of fma a score; the weighted mean brings no more than its chains.
  std::vector<Bounded> expected() const {
    const AttentionError error{gamma_n(static_cast<double>(c.head_dim)), 2 * kUnit, 0};
    return AttentionSequence::expected([&](int64_t) { return error; });
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

TEST_CASE("attention: a head's sink is one more logit of its softmax, in any cut of queries and keys") {
  for (const AttentionCase& c : kAttentionCases) {
    CAPTURE(c.seed);
    Sequence s(c);
    s.sinks = Data(c.seed + 100).floats(c.heads, 6.0f);
    const Floats out =
        same_bits_everywhere([&](const Device& device) { return s.run(0, c.length, {}, device); });
    check_bounded(out, s.expected());
    same_bits_in_batches(out, c.length, s.width(), [&](int64_t first, int64_t rows) {
      return s.run(first, first + rows, {first, first + rows / 2}, cpu(1));
    });
  }
}

TEST_CASE("attention: many runs in one call, decode rows among prefill") {
  for (const AttentionCase& c : kAttentionCases) {
    CAPTURE(c.seed);
    const Sequence s(c);
    const Floats whole = s.run(0, c.length, {}, cpu(1));
    const ManyRuns many(s, whole, [&](int64_t begin, int64_t end) { return s.span(begin, end); });
    const Floats out = same_bits_everywhere([&](const Device& device) {
      Floats result(many.queries.size());
      attention_cpu(s.args(many.runs, many.spans, many.queries.data(), result.data()), device);
      return result;
    });
    CHECK(same_bits(out, many.expected));
  }
}

TEST_CASE("attention: large scores leave one key, sums stay finite") {
  const Sequence s(AttentionCase{2, 1, 32, 150, 0, 53}, 30.0f);
  const Floats out = same_bits_everywhere([&](const Device& device) { return s.run(0, 150, {}, device); });
  check_bounded(out, s.expected());
}

TEST_CASE("attention: what a row must not see does not reach it, not even infinity or NaN") {
  check_unseen<Sequence>([](const Sequence& s) { return s.run(0, s.c.length, {}, cpu(1)); });
}

TEST_CASE("attention: heads too large for its scratch are refused") {
  const Sequence s(AttentionCase{1, 1, kMaxHeadDim + 1, 2, 0, 55});
  CHECK_THROWS_AS(s.run(0, 2, {}, cpu(1)), Error);
}
