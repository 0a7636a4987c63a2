// expert_stats on the CPU: blocks of rows. Threads fill a block's table of probabilities and output norms,
// then one thread adds it to the f64 sums in ascending row order.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/expert_stats_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/expert_stats.h"
#include "kernels/expert_stats_block.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

HWY_INLINE void softmax_row(const float* logits, int64_t count, float* probability) {
  Lanes highest = broadcast(-kInfinity);
  for (int64_t i = 0; i < count; i += kLanes) {
    highest = maximum(load_first(logits + i, count - i, -kInfinity), highest);
  }
  const Lanes top = broadcast(max_lanes(highest));
  Lanes total = zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    const Lanes e = exponential(load_first(logits + i, count - i, -kInfinity) - top);
    total = total + e;
    store_first(e, probability + i, count - i);
  }
  const Lanes sum = broadcast(sum_lanes(total));
  for (int64_t i = 0; i < count; i += kLanes) {
    store_first(load_first(probability + i, count - i) / sum, probability + i, count - i);
  }
}

HWY_INLINE void sigmoid_row(const float* logits, int64_t count, float* probability) {
  for (int64_t i = 0; i < count; i += kLanes)
    store_first(sigmoid(load_first(logits + i, count - i)), probability + i, count - i);
}

// Row `row` of the pass into row `at` of the block.
void stats_row(const ExpertStatsArgs& args, int64_t row, int64_t at, StatsBlock& block) {
  float* const probability = block.probability + at * args.experts;
  if (args.sigmoids) {
    sigmoid_row(args.logits + row * args.experts, args.experts, probability);
  } else {
    softmax_row(args.logits + row * args.experts, args.experts, probability);
  }
  for (int32_t slot = 0; slot < args.slots; ++slot) {
    if (args.expert[row * args.slots + slot] < 0) continue;
    const float* out = args.slot_out + (row * args.slots + slot) * args.hidden;
    Lanes squares = zero(), largest = zero();
    for (int64_t i = 0; i < args.hidden; i += kLanes) {
      const Lanes value = load_first(out + i, args.hidden - i);
      squares = fma(value, value, squares);
      largest = maximum(absolute(value), largest);
    }
    block.squared_norm[at * args.slots + slot] = sum_lanes(squares);
    block.largest[at * args.slots + slot] = max_lanes(largest);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(stats_row);

namespace {

void add_row(const ExpertStatsArgs& args, int64_t row, int64_t at, const StatsBlock& block) {
  const ExpertSums& sums = args.sums;
  const float* probability = block.probability + at * args.experts;
  for (int32_t e = 0; e < args.experts; ++e) sums.probability[e] += static_cast<double>(probability[e]);
  for (int32_t slot = 0; slot < args.slots; ++slot) {
    const int32_t e = args.expert[row * args.slots + slot];
    if (e < 0) continue;
    const double g = static_cast<double>(args.weight[row * args.slots + slot]);
    const double p = static_cast<double>(probability[e]);
    const double squared = static_cast<double>(block.squared_norm[at * args.slots + slot]);
    const double norm = std::sqrt(squared);
    sums.count[e] += 1;
    sums.gate[e] += g;
    sums.selected_probability[e] += p;
    sums.norm[e] += norm;
    sums.squared_norm[e] += squared;
    sums.gate_norm[e] += g * norm;
    sums.probability_norm[e] += p * norm;
    sums.gate_squared_norm[e] += g * squared;
    sums.max_activation[e] =
        std::max(sums.max_activation[e], static_cast<double>(block.largest[at * args.slots + slot]));
  }
}

}  // namespace

void expert_stats_cpu(const ExpertStatsArgs& args, const Device& device) {
  check(args);
  StatsBlock block;
  for (int64_t begin = 0; begin < args.rows; begin += kStatsRows) {
    const int64_t count = std::min(kStatsRows, args.rows - begin);
    parallel_for(device, count, [&](int64_t at) {
      HWY_DYNAMIC_DISPATCH(stats_row)(args, begin + at, at, block);
    });
    for (int64_t at = 0; at < count; ++at) add_row(args, begin + at, at, block);
  }
}

}  // namespace eep
#endif
