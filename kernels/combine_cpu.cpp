// combine on the CPU: residual[row] += sum_j weight[row, j] * slot_out[row * slots + j] (+ the shared
// expert), one chain of fused multiply-adds for each element, lanes along hidden.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/combine_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/combine.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_math.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

void combine_rows(const CombineArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* weight = args.weight + row * args.slots;
    const int32_t* expert = args.expert + row * args.slots;
    const float gate = args.shared_gate ? sigmoid(args.shared_gate[row]) : 1.0f;
    for (int64_t i = 0; i < args.hidden; i += kLanes) {
      const int64_t count = args.hidden - i;
      Lanes sum = zero();
      for (int32_t slot = 0; slot < args.slots; ++slot) {
        if (expert[slot] < 0) continue;
        const int64_t own = row * args.slots + slot;
        const float* out = args.slot_out + (args.slot_row ? args.slot_row[own] : own) * args.hidden + i;
        sum = fma(broadcast(weight[slot]), load_first(out, count), sum);
      }
      if (args.shared_out) {
        sum = fma(broadcast(gate), load_first(args.shared_out + row * args.hidden + i, count), sum);
      }
      float* residual = args.residual + row * args.hidden + i;
      store_first(load_first(residual, count) + sum, residual, count);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(combine_rows);

void combine_cpu(const CombineArgs& args, const Device& device) {
  check(args);
  const int64_t grain = 1 + 16384 / ((args.slots + 1) * args.hidden + 1);
  parallel_rows(device, args.rows, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(combine_rows)(args, begin, end);
  });
}

}  // namespace eep
#endif
