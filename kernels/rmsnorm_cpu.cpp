// rmsnorm on the CPU: out = x / sqrt(mean(x^2) + eps) * weight, the sum over 16 virtual lanes and one tree.
#include <algorithm>

#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rmsnorm_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/rmsnorm.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

void rmsnorm_rows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const int64_t stride = row_stride_16bit(args.dim);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.dim;
    uint16_t* const out16 = args.out16 != nullptr ? args.out16 + row * stride : nullptr;
    Lanes squares = zero();
    for (int64_t i = 0; i < args.dim; i += kLanes) {
      const Lanes value = load_first(x + i, args.dim - i);
      squares = fma(value, value, squares);
    }
    const float mean = sum_lanes(squares) / static_cast<float>(args.dim);
    const Lanes scale = broadcast(1.0f / std::sqrt(mean + args.eps));
    for (int64_t i = 0; i < args.dim; i += kLanes) {
      const int64_t count = args.dim - i;
      const Lanes value = load_first(x + i, count) * scale * load_first(args.weight + i, count);
      if (out16 != nullptr) store_first(value, reinterpret_cast<Bf16*>(out16) + i, count);
      if (args.out != nullptr) store_first(value, args.out + row * args.dim + i, count);
    }
    if (out16 != nullptr) std::fill(out16 + args.dim, out16 + stride, uint16_t{0});
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(rmsnorm_rows);

void rmsnorm_cpu(const RmsNormArgs& args, const Device& device) {
  check(args);
  const int64_t grain = 1 + 16384 / (args.dim + 1);
  parallel_rows(device, args.rows, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(rmsnorm_rows)(args, begin, end);
  });
}

}  // namespace eep
#endif
