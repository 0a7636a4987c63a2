// score: log-probabilities at wanted positions.
#include <fmt/format.h>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

void score_case(Bench& bench, OpCase c, const test::ScoreCase& shape) {
  const DeviceBuffer x = bench.random(shape.count * shape.hidden, DType::kF32);
  const DeviceBuffer w = bench.random_matrix(shape.vocabulary, shape.hidden, shape.dtype);
  std::vector<int32_t> target;
  for (int64_t p = 0; p < shape.count; ++p)
    target.push_back(static_cast<int32_t>(philox({static_cast<uint32_t>(p), 0, 0, 2}, 25)[0] %
                                          static_cast<uint32_t>(shape.vocabulary)));
  const DeviceBuffer out = bench.empty(shape.count * static_cast<int64_t>(sizeof(TokenScore)));
  ScoreArgs args;
  args.x = x.as<float>();
  args.target = target.data();
  args.count = shape.count;
  args.vocabulary = bench.packed(w, shape.vocabulary, shape.hidden, shape.dtype);
  args.out = out.as<TokenScore>();
  c.flops = 2.0 * static_cast<double>(shape.count * shape.vocabulary * shape.hidden);
  c.bytes = static_cast<double>(w.bytes()) + 4.0 * static_cast<double>(shape.count * shape.hidden);
  c.out = &out;
  c.run = [&] { bench.ops().score(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_score(Bench& bench) {
  for (test::ScoreCase shape : test::kScoreShapes) {
    shape.count = bench.extent(shape.count, 20);
    shape.vocabulary = bench.extent(shape.vocabulary, 400);
    shape.hidden = bench.extent(shape.hidden, 64);
    bench.attempt(
        "C", "score",
        fmt::format("{}x{}x{} {}", shape.count, shape.vocabulary, shape.hidden, dtype_name(shape.dtype)),
        [&](OpCase c) { score_case(bench, std::move(c), shape); });
  }
}

}  // namespace eep::bench
