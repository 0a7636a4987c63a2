// The chains of fma_peak.h, on each instruction set.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/fma_peak.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

inline constexpr int kChains = kRegisters == 1 ? 16 : 6;

// One round: every chain once. The result keeps the chains alive.
float run_chains(int rounds) {
  Lanes sum[kChains];
  float start[kLanes];  // all different, or the compiler would see equal registers and keep one
  for (int i = 0; i < kLanes; ++i) start[i] = static_cast<float>(i + rounds);
  EEP_UNROLL for (int c = 0; c < kChains; ++c) sum[c] = load(start) + broadcast(static_cast<float>(c));
  const Lanes a = broadcast(0.999f), b = broadcast(0.001f);
  for (int i = 0; i < rounds; ++i) {
    EEP_UNROLL for (int c = 0; c < kChains; ++c) sum[c] = fma(sum[c], a, b);
  }
  Lanes total = sum[0];
  EEP_UNROLL for (int c = 1; c < kChains; ++c) total = total + sum[c];
  return sum_lanes(total);
}

double flops_of_round() { return 2.0 * kChains * kLanes; }

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "bench/fma_peak.h"
#include "bench/sampling.h"

namespace eep {
HWY_EXPORT(run_chains);
HWY_EXPORT(flops_of_round);
}  // namespace eep

namespace eep::bench {

double fma_seconds(int rounds) {
  const double begin = thread_seconds();
  const volatile float kept = HWY_DYNAMIC_DISPATCH(run_chains)(rounds);
  (void)kept;
  return thread_seconds() - begin;
}

double fma_flops() { return HWY_DYNAMIC_DISPATCH(flops_of_round)(); }

}  // namespace eep::bench
#endif
