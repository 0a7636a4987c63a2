// The GPU's expert_stats on the host executor: sums with the CPU's bits, which test_expert_stats.cpp checks
// against the definitions.
#include "kernels/expert_stats.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_support.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

ExpertSums fields_of(double* sums, int32_t experts) {  // [10, experts]
  const auto field = [&](int32_t i) { return sums + i * experts; };
  return {field(0), field(1), field(2), field(3), field(4), field(5), field(6), field(7), field(8), field(9)};
}

}  // namespace

TEST_CASE("gpu expert_stats: the CPU's bits, added to what is there") {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats logits = data.floats(c.rows * c.experts, 5.0f), weight = data.floats(c.rows * c.slots);
    const Floats slot_out = data.floats(c.rows * c.slots * c.hidden);
    std::vector<int32_t> expert;
    for (int64_t slot = 0; slot < c.rows * c.slots; ++slot) {
      expert.push_back(data.uniform() < 0.1 ? -1 : static_cast<int32_t>(data.below(c.experts)));
    }
    ExpertStatsArgs args;
    args.rows = c.rows;
    args.slots = c.slots;
    args.experts = c.experts;
    args.hidden = c.hidden;
    const OnDevice<float> d_logits(logits), d_weight(weight), d_out(slot_out);
    const OnDevice<int32_t> d_expert(expert);
    const std::vector<double> on_gpu = same_bits_in_schedules([&] {
      const OnDevice<double> sums(10 * c.experts, 0.5);
      args.logits = d_logits.data();
      args.expert = d_expert.data();
      args.weight = d_weight.data();
      args.slot_out = d_out.data();
      args.sums = fields_of(sums.data(), c.experts);
      GPU_ROW(expert_stats)(args, gpu_device());
      return sums.values();
    });
    std::vector<double> on_cpu(static_cast<size_t>(10 * c.experts), 0.5);
    args.logits = logits.data();
    args.expert = expert.data();
    args.weight = weight.data();
    args.slot_out = slot_out.data();
    args.sums = fields_of(on_cpu.data(), c.experts);
    expert_stats_cpu(args, cpu(1));
    CHECK(same_bits(on_gpu, on_cpu));
  }
}
