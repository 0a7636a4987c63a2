// combine: weighted slots and a gated shared expert, added to the residual.
#include <fmt/format.h>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

void combine_case(Bench& bench, OpCase c, int64_t rows, int64_t width, int32_t slots) {
  const DeviceBuffer slot_out = bench.random(rows * slots * width, DType::kF32);
  const DeviceBuffer weight = bench.random(rows * slots, DType::kF32);
  const DeviceBuffer expert = bench.upload(std::vector<int32_t>(static_cast<size_t>(rows * slots), 1));
  const DeviceBuffer shared = bench.random(rows * width, DType::kF32);
  const DeviceBuffer gate = bench.random(rows, DType::kF32);
  const DeviceBuffer residual = bench.random(rows * width, DType::kF32), untouched = bench.copy(residual);
  CombineArgs args;
  args.slot_out = slot_out.as<float>();
  args.weight = weight.as<float>();
  args.expert = expert.as<int32_t>();
  args.rows = rows;
  args.slots = slots;
  args.hidden = width;
  args.shared_out = shared.as<float>();
  args.shared_gate = gate.as<float>();
  args.residual = residual.as<float>();
  c.flops = 2.0 * static_cast<double>(rows * width) * (slots + 1);
  c.bytes = 4.0 * static_cast<double>(rows * width) * (slots + 3);
  c.out = &residual;
  c.restore = [&] { bench.copy_into(residual, untouched); };
  c.run = [&] { bench.ops().combine(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_combine(Bench& bench) {
  for (const test::RowsCase& shape : test::kRowsShapes) {
    const int64_t rows = bench.extent(shape.rows, 70), width = bench.extent(shape.width, 96);
    for (int32_t slots : {2, 4}) {
      bench.attempt("C", "combine", fmt::format("{}x{} slots {} shared", rows, width, slots),
                    [&](OpCase c) { combine_case(bench, std::move(c), rows, width, slots); });
    }
  }
}

}  // namespace eep::bench
