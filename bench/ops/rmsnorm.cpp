// rmsnorm: norms of hidden rows, and of heads (width 64).
#include <fmt/format.h>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

void rmsnorm_case(Bench& bench, OpCase c, int64_t rows, int64_t width) {
  const DeviceBuffer x = bench.random(rows * width, DType::kF32), weight = bench.random(width, DType::kF32);
  const DeviceBuffer out = bench.empty(rows * width * 4);
  RmsNormArgs args;
  args.x = x.as<float>();
  args.rows = rows;
  args.dim = width;
  args.weight = weight.as<float>();
  args.eps = 1e-6f;
  args.out = out.as<float>();
  c.flops = 4.0 * static_cast<double>(rows * width);
  c.bytes = 8.0 * static_cast<double>(rows * width);
  c.out = &out;
  c.run = [&] { bench.ops().rmsnorm(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_rmsnorm(Bench& bench) {
  for (const test::RowsCase& shape : test::kRowsShapes) {
    const int64_t rows = bench.extent(shape.rows, 70), width = bench.extent(shape.width, 96);
    bench.attempt("C", "rmsnorm", fmt::format("{}x{}", rows, width),
                  [&](OpCase c) { rmsnorm_case(bench, std::move(c), rows, width); });
  }
}

}  // namespace eep::bench
