// rope: rotations in place.
#include <fmt/format.h>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

void rope_case(Bench& bench, OpCase c, int64_t rows, int64_t heads, int64_t head_dim) {
  constexpr int64_t kPositions = 512;
  const RopeTable table = rope_table(kPositions, head_dim, 1e6);
  const int64_t table_bytes = static_cast<int64_t>(table.cosine.size()) * 4;
  const DeviceBuffer cosine = bench.empty(table_bytes), sine = bench.empty(table_bytes);
  bench.ops().upload(cosine.data(), table.cosine.data(), cosine.bytes(), bench.device());
  bench.ops().upload(sine.data(), table.sine.data(), sine.bytes(), bench.device());
  const DeviceBuffer x = bench.random(rows * heads * head_dim, DType::kF32), unturned = bench.copy(x);
  std::vector<int32_t> position;
  for (int64_t row = 0; row < rows; ++row) position.push_back(static_cast<int32_t>(row % kPositions));
  RopeArgs args;
  args.x = x.as<float>();
  args.rows = rows;
  args.heads = heads;
  args.head_dim = head_dim;
  args.position = position.data();
  args.cosine = cosine.as<float>();
  args.sine = sine.as<float>();
  c.flops = 3.0 * static_cast<double>(rows * heads * head_dim);
  c.bytes = 8.0 * static_cast<double>(rows * heads * head_dim);
  c.out = &x;
  c.restore = [&] { bench.copy_into(x, unturned); };
  c.run = [&] { bench.ops().rope(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_rope(Bench& bench) {
  for (const test::RopeCase& shape : test::kRopeShapes) {
    const int64_t rows = bench.extent(shape.rows, 70), heads = bench.extent(shape.heads, 3);
    bench.attempt("C", "rope", fmt::format("{}x{}x{}", rows, heads, shape.head_dim),
                  [&](OpCase c) { rope_case(bench, std::move(c), rows, heads, shape.head_dim); });
  }
}

}  // namespace eep::bench
