// cuda.h - CUDA's own names on top of block.h: qualifiers, barriers, shuffles, votes, atomics, intrinsics.
#pragma once
#include <cmath>

#include "kernels/simt/block.h"

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static       // one block at a time, on one OS thread
#define __forceinline__ inline  // a frame for the debugger and the sanitizers
#define __launch_bounds__(...)
#define __grid_constant__
#define SIMT_CALLER simt::Where where = simt::Where::here()
constexpr int warpSize = simt::kWarp;

// ---- barriers and fences -----------------------------------------------------------------------------
inline void __syncthreads(SIMT_CALLER) { simt::block_barrier(where); }
inline void __syncwarp(unsigned mask = ~0u, SIMT_CALLER) { simt::gather(mask, char{}, where, true); }
inline void __threadfence() {}  // one OS thread sees its accesses in order
inline void __threadfence_block() {}
inline void __threadfence_system() {}
unsigned __activemask() = delete;  // depends on the schedule: pass masks down instead

// ---- shuffles ----------------------------------------------------------------------------------------
namespace simt {
template <class T>
T shuffle(unsigned mask, T value, int source, const Where& where) {
  const Lanes<T> lanes = gather(mask, value, where);
  if (lanes.mask >> source & 1) return lanes.value[source];
  fail("a shuffle reads lane " + std::to_string(source) + ", which takes no part, at " + where.text());
}
}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_CALLER) {
  return simt::shuffle(mask, value, (simt::lane() & ~(width - 1)) + (source & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SIMT_CALLER) {
  const int lane = simt::lane(), source = lane ^ bits;
  return simt::shuffle(mask, value, source / width > lane / width ? lane : source, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32, SIMT_CALLER) {
  const int lane = simt::lane();
  return simt::shuffle(mask, value, (lane & (width - 1)) < delta ? lane : lane - delta, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32, SIMT_CALLER) {
  const int lane = simt::lane();
  return simt::shuffle(mask, value, (lane & (width - 1)) + delta >= width ? lane : lane + delta, where);
}

// ---- votes, matches, reductions ----------------------------------------------------------------------
namespace simt {
template <class T, class Test>
unsigned lanes_that(unsigned mask, T value, Test test, const Where& where) {
  const Lanes<T> lanes = gather(mask, value, where);
  unsigned bits = 0;
  for (int l = 0; l < kWarp; ++l)
    if (lanes.mask >> l & 1 && test(lanes.value[l])) bits |= 1u << l;
  return bits;
}
}  // namespace simt

inline unsigned __ballot_sync(unsigned mask, int vote, SIMT_CALLER) {
  return simt::lanes_that(
      mask, vote, [](int v) { return v != 0; }, where);
}
inline int __any_sync(unsigned mask, int vote, SIMT_CALLER) { return __ballot_sync(mask, vote, where) != 0; }
inline int __all_sync(unsigned mask, int vote, SIMT_CALLER) { return __ballot_sync(mask, !vote, where) == 0; }
template <class T>
unsigned __match_any_sync(unsigned mask, T value, SIMT_CALLER) {
  return simt::lanes_that(
      mask, value, [value](T v) { return v == value; }, where);
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* all_equal, SIMT_CALLER) {
  const simt::Lanes<T> lanes = simt::gather(mask, value, where);
  unsigned equal = 0;
  for (int l = 0; l < simt::kWarp; ++l)
    if (lanes.mask >> l & 1 && lanes.value[l] == value) equal |= 1u << l;
  *all_equal = equal == lanes.mask;
  return *all_equal ? lanes.mask : 0;
}
#define SIMT_REDUCE(name, expression)                                                           \
  template <class T>                                                                            \
  T __reduce_##name##_sync(unsigned mask, T value, SIMT_CALLER) {                               \
    static_assert(std::is_integral_v<T> && sizeof(T) == 4);                                     \
    const simt::Lanes<T> lanes = simt::gather(mask, value, where);                              \
    T a = value;                                                                                \
    for (int l = 0; l < 32; ++l)                                                                \
      if (const T b = lanes.value[l]; lanes.mask >> l & 1 && l != simt::lane()) a = expression; \
    return a;                                                                                   \
  }
SIMT_REDUCE(add, a + b)
SIMT_REDUCE(min, b < a ? b : a)
SIMT_REDUCE(max, a < b ? b : a)
SIMT_REDUCE(and, a& b)
SIMT_REDUCE(or, a | b)
SIMT_REDUCE(xor, a ^ b)
#undef SIMT_REDUCE

// ---- atomics: relaxed, as CUDA's are; real ones, so that TSan knows them ------------------------------
namespace simt {
template <class T, class Next>
T atomic(T* p, Next next) {
  T seen, wanted;
  __atomic_load(p, &seen, __ATOMIC_RELAXED);
  do wanted = next(seen);
  while (!__atomic_compare_exchange(p, &seen, &wanted, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return seen;
}
}  // namespace simt

#define SIMT_ATOMIC(name, expression)                                                \
  template <class T>                                                                 \
  T atomic##name(T* p, std::type_identity_t<T> v) {                                  \
    return simt::atomic(p, [v]([[maybe_unused]] T old) -> T { return expression; }); \
  }
SIMT_ATOMIC(Add, old + v)
SIMT_ATOMIC(Sub, old - v)
SIMT_ATOMIC(Min, v < old ? v : old)
SIMT_ATOMIC(Max, old < v ? v : old)
SIMT_ATOMIC(And, old& v)
SIMT_ATOMIC(Or, old | v)
SIMT_ATOMIC(Xor, old ^ v)
SIMT_ATOMIC(Exch, v)
#undef SIMT_ATOMIC
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> wanted) {
  return simt::atomic(p, [=](T old) { return old == expected ? wanted : old; });
}

// ---- arithmetic, loads and stores --------------------------------------------------------------------
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __fdividef(float a, float b) { return a / b; }
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, std::type_identity_t<T> v) {
  *p = v;
}
[[noreturn]] inline void __trap() { simt::fail("__trap()"); }
