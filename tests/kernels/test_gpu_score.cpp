// The GPU's score on the host executor: log-probabilities within the bound, arg-max with ties to the lower
// index, any cut into batches.
#include <limits>

#include "kernels/score.h"
#include "tests/kernels/gpu_matrices.h"
#include "tests/kernels/op_problems.h"

using namespace eep;
using namespace eep::test;

namespace {

// [count, 2]: log-probability, arg-max
Floats run_score(const Floats& x, const std::vector<int32_t>& index, const std::vector<int32_t>& target,
                 const DeviceWeights& w, int64_t first, int64_t count) {
  const OnDevice<float> in(x);
  const OnDevice<TokenScore> out(count, TokenScore{99, 99});
  ScoreArgs args;
  args.x = in.data();
  args.x_index = index.empty() ? nullptr : index.data() + first;
  args.target = target.empty() ? nullptr : target.data() + first;
  args.count = count;
  args.vocabulary = w.packed;
  args.out = out.data();
  GPU_ROW(score)(args, gpu_device());
  Floats flat;
  for (const TokenScore& score : out.values()) {
    flat.push_back(score.log_probability);
    flat.push_back(static_cast<float>(score.argmax));
  }
  return flat;
}

}  // namespace

TEST_CASE("gpu score: log-probability and arg-max, same bits in every schedule and batch") {
  for (const ScoreCase& c : kScoreCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const DType dtype = dtype_on_gpu(c.dtype);
    const int64_t x_rows = c.count / 2 + 1;
    const Floats x = rounded(data.floats(x_rows * c.hidden, 2.0f), dtype);
    const DeviceWeights w(data.floats(c.vocabulary * c.hidden, 2.0f), c.vocabulary, c.hidden, dtype);
    const ScorePositions wanted(c, x_rows, data);
    const Floats out =
        same_bits_in_schedules([&] { return run_score(x, wanted.index, wanted.target, w, 0, c.count); });
    for (auto [first, count] :
         {std::pair<int64_t, int64_t>{0, 1}, {c.count / 2, 1}, {c.count / 3, 17}, {1, 50}}) {
      if (first + count > c.count) continue;
      CHECK(same_bits(run_score(x, wanted.index, wanted.target, w, first, count).data(),
                      out.data() + 2 * first, 2 * count));
    }
    wanted.check(c, x, w.values, out, 2, 64 * kUnit);  // mma_dot; more partial sums
  }
}

// The vocabulary of Qwen. Arg-max and log-probability of each row against all logits in double precision.
TEST_CASE("gpu score: full width") {
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
    const Floats x = rounded(data.floats(c.hidden, 2.0f), c.dtype);
    const DeviceWeights w(data.floats(c.vocabulary * c.hidden), c.vocabulary, c.hidden, c.dtype);
    const ScorePositions wanted({2, c.vocabulary, c.hidden, c.dtype, c.seed}, 1, data);
    const ScoreCase two{2, c.vocabulary, c.hidden, c.dtype, c.seed};
    wanted.check(two, x, w.values, run_score(x, wanted.index, wanted.target, w, 0, 2), 2, 64 * kUnit);
    const Floats many = data.floats(c.count * c.hidden, 2.0f);
    const Floats whole = run_score(many, {}, {}, w, 0, c.count);
    const Floats last(many.end() - c.hidden, many.end());
    CHECK(same_bits(run_score(last, {}, {}, w, 0, 1).data(), whole.data() + 2 * (c.count - 1), 2));
  }
}

TEST_CASE("gpu score: ties go to the lower index, across blocks and segments") {
  for (int64_t first : {0, 17, 300, 20000}) {
    const DeviceWeights w(tied_weights(first), kTiedVocabulary, kTiedHidden, DType::kBF16);
    const Floats out = run_score({1, 2, 3, 4}, {0}, {static_cast<int32_t>(first)}, w, 0, 1);
    CHECK(out[1] == static_cast<float>(first));
  }
}

TEST_CASE("gpu score: without index or target, with NaN, in another dtype") {
  Data data(88);
  const DeviceWeights w(data.floats(50 * 8), 50, 8, DType::kF16);
  Floats x = data.floats(3 * 8);
  x[8] = std::numeric_limits<float>::quiet_NaN();
  Floats out = run_score(x, {}, {}, w, 0, 3);
  CHECK(out[0] == 0.0f);
  CHECK(out[3] == 0.0f);  // arg-max of NaN
  out = run_score(x, {}, {1, 2, 3}, w, 0, 3);
  CHECK(std::isfinite(out[0]));
  CHECK(std::isnan(out[2]));
  CHECK(std::isfinite(out[4]));
  DeviceWeights wide(data.floats(8), 1, 8, DType::kF16);
  wide.packed.dtype = DType::kF32;
  CHECK(throws_with([&] { run_score(x, {}, {}, wide, 0, 1); }, "score: the vocabulary is F32"));
}
