// rope on the CPU: (x[i], x[i + d/2]) -> (x[i] cos - x[i + d/2] sin, x[i + d/2] cos + x[i] sin), in place.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

void rope_rows(const RopeArgs& args, int64_t begin, int64_t end) {
  const int64_t pairs = (args.rotary_dim > 0 ? args.rotary_dim : args.head_dim) / 2;
  for (int64_t row = begin; row < end; ++row) {
    const float* cosine = args.cosine + args.position[row] * pairs;
    const float* sine = args.sine + args.position[row] * pairs;
    for (int64_t head = 0; head < args.heads; ++head) {
      float* low = args.x + (row * args.heads + head) * args.head_dim;
      float* high = low + pairs;
      for (int64_t i = 0; i < pairs; i += kLanes) {
        const int64_t count = pairs - i;
        const Lanes c = load_first(cosine + i, count), s = load_first(sine + i, count);
        const Lanes a = load_first(low + i, count), b = load_first(high + i, count);
        store_first(fnma(b, s, a * c), low + i, count);
        store_first(fma(a, s, b * c), high + i, count);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(rope_rows);

void rope_cpu(const RopeArgs& args, const Device& device) {
  check(args);
  if (args.norm != nullptr)
    rmsnorm_cpu({args.x, args.rows * args.heads, args.head_dim, args.norm, args.eps, args.x}, device);
  const int64_t grain = 1 + 16384 / (args.heads * args.head_dim + 1);
  parallel_rows(device, args.rows, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(rope_rows)(args, begin, end);
  });
}

}  // namespace eep
#endif
