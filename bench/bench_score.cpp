// score: log-probabilities at wanted positions.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/score.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const ScoreCase& c : kScoreShapes) {
    Data data(c.seed);
    const Floats x = data.floats(c.count * c.hidden);
    const Weights w(data.floats(c.vocabulary * c.hidden), c.vocabulary, c.hidden, c.dtype);
    std::vector<int32_t> target;
    for (int64_t p = 0; p < c.count; ++p) target.push_back(static_cast<int32_t>(data.below(c.vocabulary)));
    std::vector<TokenScore> out(target.size());
    ScoreArgs args;
    args.x = x.data();
    args.target = target.data();
    args.count = c.count;
    args.vocabulary = w.packed;
    args.out = out.data();
    bench::Case b;
    b.op = "score";
    b.shape = fmt::format("{}x{}x{} {}", c.count, c.vocabulary, c.hidden, dtype_name(c.dtype));
    b.flops = 2.0 * static_cast<double>(c.count * c.vocabulary * c.hidden);
    b.bytes = static_cast<double>(w.packed.bytes()) + 4.0 * static_cast<double>(x.size());
    b.threads = bench.threads();
    b.run = [&] { score_cpu(args, cpu(bench.threads())); };
    bench.run(b);
  }
  return bench.finish();
}
