// gpu_math.h - what several kernels compute alike: the exponential and the reductions over 16 virtual lanes
// of the CPU backend (simd.h, simd_math.h), operation for operation. An op that uses only these gives the
// CPU's bits.
#pragma once

#include "kernels/gpu/gpu.h"

namespace eep::EEP_GPU_NS {

inline constexpr float kInfinity = __builtin_huge_valf();
inline constexpr int kVirtualLanes = 16;

// e^x within 2 ulp for x in [-87, 88]; 0 below, infinity above, NaN for NaN (simd_math.h has the derivation).
__device__ inline float exponential(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float t = fmaf(x, 1.44269504f, kMagic);
  const float n = t - kMagic;
  const float r = fmaf(-n, -2.12194440e-4f, fmaf(-n, 0.693359375f, x));
  float q = 1.9875691500e-4f;
  q = fmaf(q, r, 1.3981999507e-3f);
  q = fmaf(q, r, 8.3334519073e-3f);
  q = fmaf(q, r, 4.1665795894e-2f);
  q = fmaf(q, r, 1.6666665459e-1f);
  q = fmaf(q, r, 5.0000001201e-1f);
  const float power = fmaf(q * r, r, r) + 1.0f;
  if (x < -87.0f) return 0.0f;
  if (!(x < 88.0f)) return x + kInfinity;
  return __uint_as_float(__float_as_uint(power) + (__float_as_uint(t) << 23));
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(0.0f - x)); }

// The sum over the 16 lanes of each half of a warp, in every lane, by the tree of sum_lanes() in simd.h.
__device__ inline float sum_virtual_lanes(float v) {
  for (int distance = 8; distance > 0; distance /= 2) v += __shfl_xor_sync(~0u, v, distance);
  return v;
}

// The largest of the 16 lanes of each half; NaN counts as lowest.
__device__ inline float max_virtual_lanes(float v) {
  for (int distance = 8; distance > 0; distance /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, distance));
  return v;
}

inline unsigned blocks_for(int64_t units, int64_t per_block) {
  return static_cast<unsigned>((units + per_block - 1) / per_block);
}

}  // namespace eep::EEP_GPU_NS
