// score: log-probabilities within the bound, arg-max with ties to the lower index, shared rows, any cut.
#include <limits>

#include "kernels/score.h"
#include "tests/kernels/op_problems.h"

using namespace eep;
using namespace eep::test;

namespace {

Floats run_score(const Floats& x, const std::vector<int32_t>& index, const std::vector<int32_t>& target,
                 const Weights& w, int64_t first, int64_t count, const Device& device) {
  std::vector<TokenScore> out(static_cast<size_t>(count), TokenScore{99, 99});
  ScoreArgs args;
  args.x = x.data();
  args.x_index = index.data() + first;
  args.target = target.data() + first;
  args.count = count;
  args.vocabulary = w.packed;
  args.out = out.data();
  score_cpu(args, device);
  Floats flat;
  for (const TokenScore& score : out) {
    flat.push_back(score.log_probability);
    flat.push_back(static_cast<float>(score.argmax));
  }
  return flat;
}

}  // namespace

TEST_CASE("score: log-probability and arg-max, same bits everywhere and in every batch") {
  for (const ScoreCase& c : kScoreCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const int64_t x_rows = c.count / 2 + 1;
    const Floats x = data.floats(x_rows * c.hidden, 2.0f);
    const Weights w(data.floats(c.vocabulary * c.hidden, 2.0f), c.vocabulary, c.hidden, c.dtype);
    const ScorePositions wanted(c, x_rows, data);
    const Floats out = same_bits_everywhere([&](const Device& device) {
      return run_score(x, wanted.index, wanted.target, w, 0, c.count, device);
    });
    same_bits_in_batches(out, c.count, 2, [&](int64_t first, int64_t count) {
      return run_score(x, wanted.index, wanted.target, w, first, count, cpu(count % 3 == 0 ? 2 : 1));
    });
    wanted.check(c, x, w.values, out, 1, 0);
  }
}

TEST_CASE("score: ties go to the lower index, across blocks and segments") {
  for (int64_t first : {0, 17, 300, 20000}) {
    const Weights w(tied_weights(first), kTiedVocabulary, kTiedHidden, DType::kBF16);
    const Floats x = {1, 2, 3, 4};
    const std::vector<int32_t> index = {0}, target = {static_cast<int32_t>(first)};
    const Floats out = same_bits_everywhere(
        [&](const Device& device) { return run_score(x, index, target, w, 0, 1, device); });
    CHECK(out[1] == static_cast<float>(first));
  }
}

TEST_CASE("score: without index or target, and with NaN") {
  Data data(88);
  const Weights w(data.floats(50 * 8), 50, 8, DType::kF32);
  Floats x = data.floats(3 * 8);
  x[8] = std::numeric_limits<float>::quiet_NaN();
  std::vector<TokenScore> out(3);
  ScoreArgs args;
  args.x = x.data();
  args.count = 3;
  args.vocabulary = w.packed;
  args.out = out.data();
  score_cpu(args, cpu(2));
  CHECK(out[0].log_probability == 0.0f);
  CHECK(out[1].argmax == 0);
  const std::vector<int32_t> target = {1, 2, 3};
  args.target = target.data();
  score_cpu(args, cpu(1));
  CHECK(std::isfinite(out[0].log_probability));
  CHECK(std::isnan(out[1].log_probability));
  CHECK(std::isfinite(out[2].log_probability));
}
