// expert_merge on the CPU: merged[r] = sum_i coefficient[r, i] * base[i], element-wise. Blocks of elements
// small enough that all experts' pieces stay in cache while every row r is made from them.
#include "kernels/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/expert_merge_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/expert_merge.h"
#include "kernels/parallel.h"
#include "kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

inline constexpr int kStrips = 4;  // Lanes accumulated at once

template <int kCount, typename T>
HWY_INLINE void merge_strip(const ExpertMergeArgs& args, const float* coefficient, int64_t element,
                            int64_t count, T* merged) {
  Lanes sum[kCount];
  EEP_UNROLL for (int s = 0; s < kCount; ++s) sum[s] = zero();
  for (int32_t expert = 0; expert < args.experts; ++expert) {
    if (coefficient[expert] == 0.0f) continue;
    const T* base = static_cast<const T*>(args.base[expert]) + element;
    const Lanes scale = broadcast(coefficient[expert]);
    EEP_UNROLL for (int s = 0; s < kCount; ++s) {
      const Lanes value = kCount > 1 ? load(base + s * kLanes) : load_first(base, count);
      sum[s] = fma(scale, value, sum[s]);
    }
  }
  EEP_UNROLL for (int s = 0; s < kCount; ++s) {
    if (kCount > 1) {
      store(sum[s], merged + element + s * kLanes);
    } else {
      store_first(sum[s], merged + element, count);
    }
  }
}

template <typename T>
void merge_elements(const ExpertMergeArgs& args, int64_t begin, int64_t end) {
  for (int32_t row = 0; row < args.rows; ++row) {
    const float* coefficient = args.coefficient + int64_t{row} * args.experts;
    T* merged = static_cast<T*>(args.merged[row]);
    int64_t element = begin;
    for (; element + kStrips * kLanes <= end; element += kStrips * kLanes) {
      merge_strip<kStrips>(args, coefficient, element, kLanes, merged);
    }
    for (; element < end; element += kLanes)
      merge_strip<1>(args, coefficient, element, end - element, merged);
  }
}

void merge_block(const ExpertMergeArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kBF16:
      return merge_elements<Bf16>(args, begin, end);
    case DType::kF16:
      return merge_elements<F16>(args, begin, end);
    default:
      return merge_elements<float>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(merge_block);

void expert_merge_cpu(const ExpertMergeArgs& args, const Device& device) {
  constexpr int64_t kBlock = 1024;
  parallel_for(device, (args.elements + kBlock - 1) / kBlock, [&](int64_t block) {
    const int64_t end = block * kBlock + kBlock;
    HWY_DYNAMIC_DISPATCH(merge_block)(args, block * kBlock, end < args.elements ? end : args.elements);
  });
}

}  // namespace eep
#endif
