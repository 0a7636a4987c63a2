// expert_stats: sums for the one-shot criteria.
#include <fmt/format.h>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

void expert_stats_case(Bench& bench, OpCase c, const test::ExpertCase& shape) {
  const int64_t total = shape.rows * shape.slots;
  const DeviceBuffer logits = bench.random(shape.rows * shape.experts, DType::kF32);
  const DeviceBuffer weight = bench.random(total, DType::kF32);
  const DeviceBuffer slot_out = bench.random(total * shape.hidden, DType::kF32);
  std::vector<int32_t> expert;
  for (int64_t slot = 0; slot < total; ++slot)
    expert.push_back(static_cast<int32_t>(philox({static_cast<uint32_t>(slot), 0, 0, 3}, 25)[0] %
                                          static_cast<uint32_t>(shape.experts)));
  const DeviceBuffer experts = bench.upload(expert);
  const DeviceBuffer sums = bench.empty(10 * shape.experts * static_cast<int64_t>(sizeof(double)));
  const auto field = [&](int i) { return sums.as<double>() + i * shape.experts; };
  ExpertStatsArgs args;
  args.logits = logits.as<float>();
  args.expert = experts.as<int32_t>();
  args.weight = weight.as<float>();
  args.slot_out = slot_out.as<float>();
  args.rows = shape.rows;
  args.slots = shape.slots;
  args.experts = shape.experts;
  args.hidden = shape.hidden;
  args.sums = {field(0), field(1), field(2), field(3), field(4),
               field(5), field(6), field(7), field(8), field(9)};
  c.flops = 2.0 * static_cast<double>(total * shape.hidden);
  c.bytes = 4.0 * static_cast<double>(total * shape.hidden + shape.rows * shape.experts);
  c.out = &sums;
  c.restore = [&] { bench.ops().clear(sums.data(), sums.bytes(), bench.device()); };
  c.run = [&] { bench.ops().expert_stats(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_expert_stats(Bench& bench) {
  for (test::ExpertCase shape : test::kExpertShapes) {
    if (shape.rows < 64) continue;
    shape.rows = bench.extent(shape.rows, 70);
    shape.hidden = bench.extent(shape.hidden, 48);
    bench.attempt(
        "C", "expert_stats",
        fmt::format("{}x{} slots {} experts {}", shape.rows, shape.hidden, shape.slots, shape.experts),
        [&](OpCase c) { expert_stats_case(bench, std::move(c), shape); });
  }
}

}  // namespace eep::bench
