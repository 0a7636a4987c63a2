// round_rows on the CPU: f32 to bf16 or f16, round to nearest even, zeros up to the stride.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/round_rows_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/round_rows.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

template <typename T>
HWY_INLINE void round_rows_to(const RoundRowsArgs& args, int64_t begin, int64_t end) {
  const int64_t stride = row_stride_16bit(args.width);
  for (int64_t row = begin; row < end; ++row) {
    const float* const x = args.x + row * args.width;
    uint16_t* const out = args.out + row * stride;
    for (int64_t i = 0; i < args.width; i += kLanes) {
      store_first(load_first(x + i, args.width - i), reinterpret_cast<T*>(out) + i, args.width - i);
    }
    std::memset(out + args.width, 0, static_cast<size_t>(stride - args.width) * sizeof(uint16_t));
  }
}

void round_rows_of(const RoundRowsArgs& args, int64_t begin, int64_t end) {
  if (args.dtype == DType::kBF16) {
    round_rows_to<Bf16>(args, begin, end);
  } else {
    round_rows_to<F16>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(round_rows_of);

void round_rows_cpu(const RoundRowsArgs& args, const Device& device) {
  check(args);
  const int64_t grain = 1 + 32768 / (args.width + 1);
  parallel_rows(device, args.rows, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(round_rows_of)(args, begin, end);
  });
}

}  // namespace eep
#endif
