// simt/types.h - CUDA's vector types, bf16 and half on the host. Always our own, never the toolkit's, so that
// a kernel means the same with and without one; all conversions are explicit, which both accept. The types
// live in simt and the global names are aliases, so that code built by nvcc can be linked into the same
// program.
#pragma once
#include <bit>
#include <cstdint>

#include "kernels/common/float16.h"

namespace simt {

struct Uint3 {
  unsigned x, y, z;
};
struct Dim3 {
  unsigned x, y, z;
  constexpr Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) Float2 {
  float x, y;
};
struct alignas(16) Float4 {
  float x, y, z, w;
};
struct alignas(8) Int2 {
  int x, y;
};
struct alignas(16) Int4 {
  int x, y, z, w;
};
struct alignas(8) Uint2 {
  unsigned x, y;
};
struct alignas(16) Uint4 {
  unsigned x, y, z, w;
};

// To nearest, ties to even; NaN becomes 0x7fff, as on the device.
inline uint16_t float_to_bf16(float value) {
  return value != value ? uint16_t{0x7fff} : eep::f32_to_bf16(value);
}
inline uint16_t float_to_half(float value) {
  return value != value ? uint16_t{0x7fff} : eep::f32_to_f16(value);
}

struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float value) : bits(float_to_bf16(value)) {}
  explicit operator float() const { return eep::bf16_to_f32(bits); }
};
struct alignas(4) BFloat162 {
  BFloat16 x, y;
};
struct Half {
  uint16_t bits;
  Half() = default;
  explicit Half(float value) : bits(float_to_half(value)) {}
  explicit operator float() const { return eep::f16_to_f32(bits); }
};
struct alignas(4) Half2 {
  Half x, y;
};

}  // namespace simt

using uint3 = simt::Uint3;
using dim3 = simt::Dim3;
using float2 = simt::Float2;
using float4 = simt::Float4;
using int2 = simt::Int2;
using int4 = simt::Int4;
using uint2 = simt::Uint2;
using uint4 = simt::Uint4;
using __nv_bfloat16 = simt::BFloat16;
using __nv_bfloat162 = simt::BFloat162;
using __half = simt::Half;
using __half2 = simt::Half2;

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

inline __nv_bfloat16 __float2bfloat16(float v) { return __nv_bfloat16(v); }
inline float __bfloat162float(__nv_bfloat16 v) { return static_cast<float>(v); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {static_cast<float>(v.x), static_cast<float>(v.y)};
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return std::bit_cast<__nv_bfloat16>(bits); }

inline __half __float2half(float v) { return __half(v); }
inline float __half2float(__half v) { return static_cast<float>(v); }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline float2 __half22float2(__half2 v) { return {static_cast<float>(v.x), static_cast<float>(v.y)}; }
inline unsigned short __half_as_ushort(__half v) { return v.bits; }
inline __half __ushort_as_half(unsigned short bits) { return std::bit_cast<__half>(bits); }
