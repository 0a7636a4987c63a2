// expert_merge on the CPU: merged[r] = sum_i coefficient[r, i] * base[i], element-wise. Blocks of elements
// small enough that all experts' pieces stay in cache while every row r is made from them.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/expert_merge_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/expert_merge.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

inline constexpr int kStripRows = 4;  // merged rows made together from one load of a base value

// kRows rows of kStrips * 16 elements, of which the last 16 hold `count`.
template <int kRows, int kStrips, typename T>
HWY_INLINE void merge_strip(const ExpertMergeArgs& args, int32_t row, int64_t element, int64_t count) {
  Lanes sum[kRows][kStrips];
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    EEP_UNROLL for (int s = 0; s < kStrips; ++s) sum[r][s] = zero();
  }
  const float* coefficient = args.coefficient + int64_t{row} * args.experts;
  for (int32_t expert = 0; expert < args.experts; ++expert) {
    bool read = false;  // a base expert that no row takes part of need not be there
    EEP_UNROLL for (int r = 0; r < kRows; ++r) read |= coefficient[r * args.experts + expert] != 0.0f;
    if (!read) continue;
    const T* base = static_cast<const T*>(args.base[expert]) + element;
    Lanes value[kStrips];
    EEP_UNROLL for (int s = 0; s < kStrips; ++s) {
      value[s] = kStrips > 1 ? load(base + s * kLanes) : load_first(base, count);
    }
    EEP_UNROLL for (int r = 0; r < kRows; ++r) {
      const float scale = coefficient[r * args.experts + expert];
      if (scale == 0.0f) continue;
      EEP_UNROLL for (int s = 0; s < kStrips; ++s) sum[r][s] = fma(broadcast(scale), value[s], sum[r][s]);
    }
  }
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    T* merged = static_cast<T*>(args.merged[row + r]) + element;
    EEP_UNROLL for (int s = 0; s < kStrips; ++s) {
      if (kStrips > 1) {
        store(sum[r][s], merged + s * kLanes);
      } else {
        store_first(sum[r][s], merged, count);
      }
    }
  }
}

template <typename T>
HWY_INLINE Lanes rounded(const Lanes& value) {
  HWY_ALIGN T bits[kLanes];
  store(value, bits);
  return load(bits);
}

// One row, rounded at each step (eep_rounding).
template <typename T>
void merge_rounded(const ExpertMergeArgs& args, int32_t row, int64_t begin, int64_t end) {
  const float* coefficient = args.coefficient + int64_t{row} * args.experts;
  for (int64_t element = begin; element < end; element += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, end - element);
    Lanes sum = zero();
    for (int32_t expert = 0; expert < args.experts; ++expert) {
      if (coefficient[expert] == 0.0f) continue;
      const Lanes value = load_first(static_cast<const T*>(args.base[expert]) + element, count);
      sum = rounded<T>(sum + rounded<T>(broadcast(coefficient[expert]) * value));
    }
    store_first(sum, static_cast<T*>(args.merged[row]) + element, count);
  }
}

template <int kRows, typename T>
HWY_INLINE void merge_rows(const ExpertMergeArgs& args, int32_t row, int64_t begin, int64_t end) {
  constexpr int kStrips = kRows == 1 ? 4 : 2;
  int64_t element = begin;
  for (; element + kStrips * kLanes <= end; element += kStrips * kLanes) {
    merge_strip<kRows, kStrips, T>(args, row, element, kLanes);
  }
  for (; element < end; element += kLanes) merge_strip<kRows, 1, T>(args, row, element, end - element);
}

template <typename T>
void merge_elements(const ExpertMergeArgs& args, int64_t begin, int64_t end) {
  int32_t row = 0;
  if (args.eep_rounding) {
    for (; row < args.rows; ++row) merge_rounded<T>(args, row, begin, end);
    return;
  }
  for (; row + kStripRows <= args.rows; row += kStripRows) merge_rows<kStripRows, T>(args, row, begin, end);
  for (; row < args.rows; ++row) merge_rows<1, T>(args, row, begin, end);
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
  check(args);
  constexpr int64_t kBlock = 1024;
  parallel_for(device, (args.elements + kBlock - 1) / kBlock, [&](int64_t block) {
    const int64_t end = block * kBlock + kBlock;
    HWY_DYNAMIC_DISPATCH(merge_block)(args, block * kBlock, end < args.elements ? end : args.elements);
  });
}

}  // namespace eep
#endif
