// half_pair.h - the two 16-bit types in kernels, as pairs of bits in a 32-bit word, vector accesses, and an
// exchange that makes them of fragments.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/gpu/gpu.h"
#include "kernels/gpu/ptx.h"

namespace eep::EEP_GPU_NS {

// The element with the lower index in the low half.
struct Bf16 {
  static __device__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
  }
  static __device__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
  static __device__ float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
  static __device__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_bf16(d, a, b);
  }
};
struct F16 {
  static __device__ uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
  }
  static __device__ float low(uint32_t pair) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(pair)));
  }
  static __device__ float high(uint32_t pair) { return low(pair >> 16); }
  static __device__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_f16(d, a, b);
  }
};

// Vector accesses bind a reference first, so that UBSan sees a misaligned address.
template <class Vector, class T>
__device__ Vector load_vector(const T* from) {
  const Vector& vector = *reinterpret_cast<const Vector*>(from);
  return vector;
}
template <class Vector, class T>
__device__ void store_vector(T* to, const Vector& value) {
  Vector& vector = *reinterpret_cast<Vector*>(to);
  vector = value;
}

// A square of words over four lanes: lane q has words q of blocks 0 .. 3, and gets words 0 .. 3 of block q.
__device__ inline uint4 transpose_quad(uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3) {
  const bool odd = threadIdx.x % 2 == 1, upper = threadIdx.x / 2 % 2 == 1;
  const uint32_t a = __shfl_xor_sync(~0u, odd ? w0 : w1, 1), b = __shfl_xor_sync(~0u, odd ? w2 : w3, 1);
  if (odd) {
    w0 = a, w2 = b;
  } else {
    w1 = a, w3 = b;
  }
  const uint32_t c = __shfl_xor_sync(~0u, upper ? w0 : w2, 2), d = __shfl_xor_sync(~0u, upper ? w1 : w3, 2);
  if (upper) {
    w0 = c, w1 = d;
  } else {
    w2 = c, w3 = d;
  }
  return {w0, w1, w2, w3};
}

// values = row[at, at + 8), zeros beyond its `count` elements or without a row. vectors: rows start at 16
// bytes.
__device__ inline void load_eight(const float* row, int at, int count, bool vectors, float (&values)[8]) {
  if (vectors && row != nullptr && at + 8 <= count) {
    const float4 low = load_vector<float4>(row + at), high = load_vector<float4>(row + at + 4);
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = row != nullptr && at + i < count ? row[at + i] : 0.0f;
}

}  // namespace eep::EEP_GPU_NS
