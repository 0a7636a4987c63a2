// expert_stats: sums for the one-shot criteria.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/expert_stats.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const ExpertCase& c : kExpertShapes) {
    if (c.rows < 64) continue;
    Data data(c.seed);
    const Floats logits = data.floats(c.rows * c.experts), weight = data.floats(c.rows * c.slots);
    const Floats slot_out = data.floats(c.rows * c.slots * c.hidden);
    std::vector<int32_t> expert;
    for (int64_t slot = 0; slot < c.rows * c.slots; ++slot)
      expert.push_back(static_cast<int32_t>(data.below(c.experts)));
    std::vector<double> sums(static_cast<size_t>(10 * c.experts));
    const auto field = [&](int i) { return sums.data() + i * c.experts; };
    ExpertStatsArgs args{
        logits.data(),
        expert.data(),
        weight.data(),
        slot_out.data(),
        c.rows,
        c.slots,
        c.experts,
        c.hidden,
        {field(0), field(1), field(2), field(3), field(4), field(5), field(6), field(7), field(8), field(9)}};
    bench::Case b;
    b.op = "expert_stats";
    b.shape = fmt::format("{}x{} slots {} experts {}", c.rows, c.hidden, c.slots, c.experts);
    b.flops = 2.0 * static_cast<double>(slot_out.size());
    b.bytes = 4.0 * static_cast<double>(slot_out.size() + logits.size());
    b.threads = bench.threads();
    b.run = [&] { expert_stats_cpu(args, cpu(bench.threads())); };
    bench.run(b);
  }
  return bench.finish();
}
