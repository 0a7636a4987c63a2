// attention on the host executor: values within the bound in every schedule, and bits that do not depend on
// runs, spans, tiles or alignment.
#include <memory>

#include "kernels/common/error.h"
#include "tests/kernels/attention_reference.h"
#include "tests/kernels/gpu_support.h"

using namespace eep;
using namespace eep::test;

namespace {

// Each span is memory of its own.
struct Sequence : AttentionSequence {
  using AttentionSequence::AttentionSequence;

  Floats rows(const Floats& all, int64_t row_width, int64_t begin, int64_t end) const {
    return Floats(all.begin() + begin * row_width, all.begin() + end * row_width);
  }

  static AttentionArgs with_sinks(AttentionArgs args, const float* sinks) {
    args.sinks = sinks;
    return args;
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
    (with_sinks(args({only}, spans, place(rows(q, width(), begin, end)), out.data()),
                sinks.empty() ? nullptr : place(sinks)),
     gpu_device());
    return out.values();
  }

  // Products of values split into two bf16: each split leaves 2^-16 of its value, lo lo is left out: 3 *
  // 2^-16 (and higher orders) of a product's magnitude. Each of the three sums that a product brings is off
  // by at most 2 u of the magnitude (gpu_matrices.h). The values bring as much more, over the keys.
  std::vector<Bounded> expected() const {
    constexpr double kSplit = 3.1 * 0x1p-16;
    const double product = kSplit + gamma_n(6 * static_cast<double>(c.head_dim + 16)) + 2 * kUnit;
    return AttentionSequence::expected([&](int64_t keys) {
      return AttentionError{product, 0, kSplit + gamma_n(6 * static_cast<double>(keys + 64))};
    });
  }
};

}  // namespace

TEST_CASE("gpu attention: a head's sink is one more logit of its softmax, in few and in wide tiles") {
  for (const AttentionCase& c :
       {kAttentionCases[1], kAttentionCases[5], kAttentionCases[7], kAttentionCases[10]}) {
    CAPTURE(c.seed);
    Sequence s(c);
    s.sinks = Data(c.seed + 100).floats(c.heads, 6.0f);
    const Floats out = s.run(0, c.length, {});
    check_bounded(out, s.expected());
    for (int64_t row : {int64_t{0}, c.length / 2, c.length - 1}) {
      const Floats one = s.run(row, row + 1, {row / 2});
      CHECK(same_bits(one.data(), out.data() + row * s.width(), s.width()));
    }
  }
}

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

// Heads and lengths of released models; a row of decoding has the bits of prefill.
TEST_CASE("gpu attention: full width") {
#ifdef EEP_TEST_CUDA
  const AttentionCase c{16, 4, 128, 500, 0, 59};
#else
  const AttentionCase c{8, 2, 128, 140, 0, 59};
#endif
  const Sequence s(c);
  const Floats whole = s.run(0, c.length, {});
  check_bounded(whole, s.expected());
  const int64_t last = c.length - 1;
  CHECK(same_bits(s.run(last, c.length, {100}).data(), whole.data() + last * s.width(), s.width()));
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
    const ManyRuns many(s, whole, span);
    const OnDevice<float> q(many.queries);
    const Floats out = same_bits_in_schedules([&] {
      const OnDevice<float> result(static_cast<int64_t>(many.queries.size()), NAN);
      GPU_ROW(attention)(s.args(many.runs, many.spans, q.data(), result.data()), gpu_device());
      return result.values();
    });
    CHECK(same_bits(out, many.expected));
  }
}

TEST_CASE("gpu attention: large scores leave one key, sums stay finite") {
  const Sequence s(AttentionCase{2, 1, 32, 150, 0, 53}, 30.0f);
  check_bounded(s.run(0, 150, {}), s.expected());
}

TEST_CASE("gpu attention: what a row must not see does not reach it, not even infinity or NaN") {
  check_unseen<Sequence>([](const Sequence& s) { return s.run(0, s.c.length, {}); });
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
