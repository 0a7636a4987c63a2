// score: log-probabilities within the bound, arg-max with ties to the lower index, shared rows, any cut.
#include <limits>

#include "tests/kernels/ops/op_rows.h"

using namespace eep;
using namespace eep::test;

namespace {

// Scored positions of rows of x, weights [vocabulary, hidden].
template <class Row>
struct ScoreProblem {
  ScoreCase c;
  Floats x;  // [x_rows, hidden]
  Matrix<Row> w;
  std::vector<int32_t> index, target;  // or nothing

  ScoreProblem(const ScoreCase& case_, Floats x_, const Floats& weights)
      : c(case_), x(std::move(x_)), w(weights, c.vocabulary, c.hidden, Row::dtype(c.dtype)) {}

  // Some rows are wanted several times in a row, some positions have no target.
  void add_positions(Data& data) {
    const int64_t x_rows = static_cast<int64_t>(x.size()) / c.hidden;
    for (int64_t p = 0; p < c.count; ++p) {
      const bool again = p > 0 && data.uniform() < 0.4;
      index.push_back(again ? index.back() : static_cast<int32_t>(data.below(x_rows)));
      target.push_back(data.uniform() < 0.2 ? -1 : static_cast<int32_t>(data.below(c.vocabulary)));
    }
  }

  // [count, 2]: log-probability, arg-max
  Floats run(int64_t first, int64_t count, const Device& device = Row::device()) const {
    const Input<Row, float> in(x);
    const Output<Row, TokenScore> out(count, TokenScore{99, 99});
    ScoreArgs args;
    args.x = in.data();
    args.x_index = index.empty() ? nullptr : index.data() + first;
    args.target = target.empty() ? nullptr : target.data() + first;
    args.count = count;
    args.vocabulary = w.packed;
    args.out = out.data();
    call(Row(), args, device);
    Floats flat;
    for (const TokenScore& score : out.values()) {
      flat.push_back(score.log_probability);
      flat.push_back(static_cast<float>(score.argmax));
    }
    return flat;
  }

  // out of all positions against the definition. On a GPU the chain of a logit is that of mma_dot, and there
  // are more partial sums.
  void check(const Floats& out) const {
    const double chains = Row::kHost ? 1 : 2, sums = Row::kHost ? 0 : 64 * kUnit;
    const Floats read = Row::as_read(x, w.packed.dtype);
    Floats log_probability;
    std::vector<Bounded> expected;
    for (size_t p = 0; p < index.size(); ++p) {
      const ScoreReference reference =
          score(read.data() + index[p] * c.hidden, w.values, c.vocabulary, c.hidden, target[p]);
      log_probability.push_back(out[2 * p]);
      expected.push_back(reference.log_probability);
      expected.back().bound = chains * expected.back().bound + sums;
      const Bounded& chosen = reference.logits[static_cast<size_t>(out[2 * p + 1])];
      CHECK(chosen.expected >= reference.highest - 2 * chains * chosen.bound);
      if (target[p] < 0) CHECK(out[2 * p] == 0.0f);
    }
    check_bounded(log_probability, expected);
  }
};

}  // namespace

EVERY_ROW("score: log-probability and arg-max, same bits everywhere and in every batch") {
  for (const ScoreCase& c : kScoreCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    Floats x = data.floats((c.count / 2 + 1) * c.hidden, 2.0f);
    ScoreProblem<Row> p(c, std::move(x), data.floats(c.vocabulary * c.hidden, 2.0f));
    p.add_positions(data);
    const Floats out = Row::same_bits([&](const Device& device) { return p.run(0, c.count, device); });
    Row::same_in_batches(
        out, c.count, 2, [&](int64_t first, int64_t count) { return p.run(first, count); }, {1, 17, 50}, 2);
    p.check(out);
  }
}

// The vocabulary of Qwen. Arg-max and log-probability of each row against all logits in double precision.
EVERY_ROW("score: full width") {
#ifdef EEP_TEST_CUDA
  const ScoreCase cases[] = {{40, 151936, 512, DType::kBF16, 88}, {300, 32000, 256, DType::kF16, 89}};
#elif defined(EEP_SANITIZED)
  const ScoreCase cases[] = {{2, 20000, 16, DType::kBF16, 88}};
#else
  const ScoreCase cases[] = {{2, 151936, 16, DType::kBF16, 88}};
#endif
  for (const ScoreCase& c : cases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    ScoreProblem<Row> p({2, c.vocabulary, c.hidden, c.dtype, c.seed}, data.floats(c.hidden, 2.0f),
                        data.floats(c.vocabulary * c.hidden));
    p.add_positions(data);
    p.check(p.run(0, 2));
    p.index.clear();
    p.target.clear();
    p.x = data.floats(c.count * c.hidden, 2.0f);
    const Floats whole = p.run(0, c.count);
    p.x.erase(p.x.begin(), p.x.end() - c.hidden);
    CHECK(same_bits(p.run(0, 1).data(), whole.data() + 2 * (c.count - 1), 2));
  }
}

// Logits of four tokens are equal and above all others: `first` is the lowest.
EVERY_ROW("score: ties go to the lower index, across blocks and segments") {
  const ScoreCase c{1, 40000, 4, DType::kBF16, 0};
  for (int64_t first : {0, 17, 300, 20000}) {
    Floats weights(static_cast<size_t>(c.vocabulary * c.hidden));
    for (int64_t token : {first, first + 1, first + 700, c.vocabulary - 1})
      weights[static_cast<size_t>(token * c.hidden)] = 1;
    ScoreProblem<Row> p(c, {1, 2, 3, 4}, weights);
    p.index = {0};
    p.target = {static_cast<int32_t>(first)};
    CHECK(p.run(0, 1)[1] == static_cast<float>(first));
  }
}

EVERY_ROW("score: without index or target, and with NaN") {
  for (DType dtype : {DType::kF32, DType::kF16}) {
    Data data(88);
    const Floats weights = data.floats(50 * 8);
    ScoreProblem<Row> p({3, 50, 8, dtype, 88}, data.floats(3 * 8), weights);
    p.x[8] = std::numeric_limits<float>::quiet_NaN();
    Floats out = p.run(0, 3);
    CHECK(out[0] == 0.0f);
    CHECK(out[3] == 0.0f);  // arg-max of NaN
    p.target = {1, 2, 3};
    out = p.run(0, 3);
    CHECK(std::isfinite(out[0]));
    CHECK(std::isnan(out[2]));
    CHECK(std::isfinite(out[4]));
  }
}

TEST_CASE("gpu score: f32 weights are refused") {
  ScoreProblem<Gpu> p({1, 1, 8, DType::kF16, 88}, Data(1).floats(8), Data(2).floats(8));
  p.w.packed.dtype = DType::kF32;
  CHECK(throws_with([&] { p.run(0, 1); }, "score: the vocabulary is F32"));
}
