// Lanes: sixteen f32 values, whatever the register width: one AVX-512 register, two of AVX2, four of NEON, a
// plain array with std::fma on the plain target. Every op of the CPU backend is written once over Lanes, so
// element i of a row meets the same operations in the same order on every instruction set: same bits.
//
// Included inside each *_cpu.cpp after hwy/highway.h; compiled once per target.
#if defined(EEP_KERNELS_SIMD_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EEP_KERNELS_SIMD_H_
#undef EEP_KERNELS_SIMD_H_
#else
#define EEP_KERNELS_SIMD_H_
#endif

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "kernels/common/float16.h"

// Instrumented code is not unrolled: it would take minutes to compile.
#undef EEP_UNROLL
#if defined(EEP_SANITIZED)
#define EEP_UNROLL
#elif defined(__clang__)
#define EEP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EEP_UNROLL _Pragma("GCC unroll 16")
#endif

#undef EEP_PLAIN
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
#define EEP_PLAIN 1
#else
#define EEP_PLAIN 0
#endif

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

inline constexpr int kLanes = 16;
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// 16-bit weights keep their dtype in the type system.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

#if EEP_PLAIN

inline constexpr int kRegisters = 16;  // values a Lanes is made of

struct Lanes {
  float r[kLanes];
};

#define EEP_EACH(expression)                                         \
  Lanes out;                                                         \
  EEP_UNROLL for (int i = 0; i < kLanes; ++i) out.r[i] = expression; \
  return out

HWY_INLINE Lanes broadcast(float value) { EEP_EACH(value); }
HWY_INLINE Lanes load(const float* p) { EEP_EACH(p[i]); }
HWY_INLINE Lanes load(const Bf16* p) { EEP_EACH(bf16_to_f32(p[i].bits)); }
HWY_INLINE Lanes load(const F16* p) { EEP_EACH(f16_to_f32(p[i].bits)); }
HWY_INLINE Lanes load_paired(const Bf16* p) { EEP_EACH(bf16_to_f32(p[i < 8 ? 2 * i : 2 * i - 15].bits)); }
HWY_INLINE void store(const Lanes& a, float* p) { std::memcpy(p, a.r, sizeof(a.r)); }
HWY_INLINE void store(const Lanes& a, Bf16* p) {
  for (int i = 0; i < kLanes; ++i) p[i].bits = f32_to_bf16(a.r[i]);
}
HWY_INLINE void store(const Lanes& a, F16* p) {
  for (int i = 0; i < kLanes; ++i) p[i].bits = f32_to_f16(a.r[i]);
}
HWY_INLINE Lanes operator+(const Lanes& a, const Lanes& b) { EEP_EACH(a.r[i] + b.r[i]); }
HWY_INLINE Lanes operator-(const Lanes& a, const Lanes& b) { EEP_EACH(a.r[i] - b.r[i]); }
HWY_INLINE Lanes operator*(const Lanes& a, const Lanes& b) { EEP_EACH(a.r[i] * b.r[i]); }
HWY_INLINE Lanes operator/(const Lanes& a, const Lanes& b) { EEP_EACH(a.r[i] / b.r[i]); }
HWY_INLINE Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  EEP_EACH(std::fma(a.r[i], b.r[i], c.r[i]));
}
HWY_INLINE Lanes fnma(const Lanes& a, const Lanes& b, const Lanes& c) {
  EEP_EACH(std::fma(-a.r[i], b.r[i], c.r[i]));
}
HWY_INLINE Lanes maximum(const Lanes& a, const Lanes& b) { EEP_EACH(a.r[i] > b.r[i] ? a.r[i] : b.r[i]); }
HWY_INLINE Lanes absolute(const Lanes& a) { EEP_EACH(std::fabs(a.r[i])); }
HWY_INLINE Lanes select_less(const Lanes& a, const Lanes& b, const Lanes& yes, const Lanes& no) {
  EEP_EACH(a.r[i] < b.r[i] ? yes.r[i] : no.r[i]);
}
HWY_INLINE Lanes add_exponent(const Lanes& a, const Lanes& t) {
  EEP_EACH(std::bit_cast<float>(std::bit_cast<uint32_t>(a.r[i]) + (std::bit_cast<uint32_t>(t.r[i]) << 23)));
}

#undef EEP_EACH

#else  // a vector target

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::FixedTag<float, HWY_MIN(16, HWY_MAX_BYTES / 4)>;
using V = hn::Vec<D>;
inline constexpr int kRegisterLanes = HWY_MIN(16, HWY_MAX_BYTES / 4);
inline constexpr int kRegisters = kLanes / kRegisterLanes;  // registers a Lanes is made of

struct Lanes {
  V r[kRegisters];
  HWY_INLINE Lanes() {}  // written out, because an implicit one would be compiled outside the target's region
};

#define EEP_EACH(expression)                                             \
  Lanes out;                                                             \
  EEP_UNROLL for (int i = 0; i < kRegisters; ++i) out.r[i] = expression; \
  return out

HWY_INLINE Lanes broadcast(float value) { EEP_EACH(hn::Set(D(), value)); }
HWY_INLINE Lanes load(const float* p) { EEP_EACH(hn::LoadU(D(), p + i * kRegisterLanes)); }
HWY_INLINE Lanes load(const Bf16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const uint16_t* bits = reinterpret_cast<const uint16_t*>(p);
  EEP_EACH(
      hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, bits + i * kRegisterLanes)))));
}
HWY_INLINE Lanes load(const F16* p) {
  const hn::Rebind<hwy::float16_t, D> d16;
  const hwy::float16_t* bits = reinterpret_cast<const hwy::float16_t*>(p);
  EEP_EACH(hn::PromoteTo(D(), hn::LoadU(d16, bits + i * kRegisterLanes)));
}
// Sixteen values in the order 0, 8, 1, 9, ... 7, 15: the low and the high halves of 32-bit words, which a
// shift and a mask widen.
HWY_INLINE Lanes load_paired(const Bf16* p) {
#if HWY_MAX_BYTES >= 64
  const hn::FixedTag<uint32_t, 8> d;
#else
  const hn::RebindToUnsigned<D> d;
#endif
  using Words = hn::Vec<decltype(d)>;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(p);
  Lanes out;
#if HWY_MAX_BYTES >= 64
  const Words pairs = hn::LoadU(d, words);
  const auto low = hn::ShiftLeft<16>(pairs), high = hn::And(pairs, hn::Set(d, 0xffff0000u));
  out.r[0] = hn::BitCast(D(), hn::Combine(hn::RebindToUnsigned<D>(), high, low));
#else
  EEP_UNROLL for (int i = 0; i < kRegisters / 2; ++i) {
    const Words pairs = hn::LoadU(d, words + i * kRegisterLanes);
    out.r[i] = hn::BitCast(D(), hn::ShiftLeft<16>(pairs));
    out.r[i + kRegisters / 2] = hn::BitCast(D(), hn::And(pairs, hn::Set(d, 0xffff0000u)));
  }
#endif
  return out;
}
HWY_INLINE void store(const Lanes& a, float* p) {
  EEP_UNROLL for (int i = 0; i < kRegisters; ++i) hn::StoreU(a.r[i], D(), p + i * kRegisterLanes);
}
// Round to nearest even, NaN stays NaN: as f32_to_bf16.
HWY_INLINE void store(const Lanes& a, Bf16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  uint16_t* out = reinterpret_cast<uint16_t*>(p);
  EEP_UNROLL for (int i = 0; i < kRegisters; ++i) {
    const auto bits = hn::BitCast(d32, a.r[i]);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
    const auto rounded = hn::ShiftRight<16>(bits + odd + hn::Set(d32, 0x7fffu));
    const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(d32, 0x40u));
    const auto is_nan = hn::RebindMask(d32, hn::IsNaN(a.r[i]));
    hn::StoreU(
        hn::DemoteTo(d16, hn::BitCast(hn::RebindToSigned<D>(), hn::IfThenElse(is_nan, quiet, rounded))), d16,
        out + i * kRegisterLanes);
  }
}
HWY_INLINE void store(const Lanes& a, F16* p) {
  const hn::Rebind<hwy::float16_t, D> d16;
  hwy::float16_t* out = reinterpret_cast<hwy::float16_t*>(p);
  EEP_UNROLL for (int i = 0; i < kRegisters; ++i) {
    hn::StoreU(hn::DemoteTo(d16, a.r[i]), d16, out + i * kRegisterLanes);
  }
}
HWY_INLINE Lanes operator+(const Lanes& a, const Lanes& b) { EEP_EACH(hn::Add(a.r[i], b.r[i])); }
HWY_INLINE Lanes operator-(const Lanes& a, const Lanes& b) { EEP_EACH(hn::Sub(a.r[i], b.r[i])); }
HWY_INLINE Lanes operator*(const Lanes& a, const Lanes& b) { EEP_EACH(hn::Mul(a.r[i], b.r[i])); }
HWY_INLINE Lanes operator/(const Lanes& a, const Lanes& b) { EEP_EACH(hn::Div(a.r[i], b.r[i])); }
HWY_INLINE Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  EEP_EACH(hn::MulAdd(a.r[i], b.r[i], c.r[i]));
}
HWY_INLINE Lanes fnma(const Lanes& a, const Lanes& b, const Lanes& c) {
  EEP_EACH(hn::NegMulAdd(a.r[i], b.r[i], c.r[i]));
}
// a > b ? a : b: with a NaN in either, b. x86's maximum is just that; NEON's is not.
template <typename Register>
HWY_INLINE Register larger(Register a, Register b) {
#if HWY_ARCH_X86
  return hn::Max(a, b);
#else
  return hn::IfThenElse(hn::Gt(a, b), a, b);
#endif
}
HWY_INLINE Lanes maximum(const Lanes& a, const Lanes& b) { EEP_EACH(larger(a.r[i], b.r[i])); }
HWY_INLINE Lanes absolute(const Lanes& a) { EEP_EACH(hn::Abs(a.r[i])); }
HWY_INLINE Lanes select_less(const Lanes& a, const Lanes& b, const Lanes& yes, const Lanes& no) {
  EEP_EACH(hn::IfThenElse(hn::Lt(a.r[i], b.r[i]), yes.r[i], no.r[i]));
}
// The integer in the low bits of t is added to the exponent of a.
HWY_INLINE Lanes add_exponent(const Lanes& a, const Lanes& t) {
  const hn::RebindToUnsigned<D> d;
  EEP_EACH(hn::BitCast(D(), hn::Add(hn::BitCast(d, a.r[i]), hn::ShiftLeft<23>(hn::BitCast(d, t.r[i])))));
}

#undef EEP_EACH

#endif  // EEP_PLAIN

// The first n values, the other lanes hold `fill`. n in [0, 16].
template <typename T>
HWY_INLINE Lanes load_first(const T* p, int64_t n, float fill = 0) {
  if (n >= kLanes) return load(p);
  float values[kLanes];
  store(broadcast(fill), values);
  T first[kLanes] = {};
  std::memcpy(first, p, static_cast<size_t>(n) * sizeof(T));
  float widened[kLanes];
  store(load(first), widened);
  std::memcpy(values, widened, static_cast<size_t>(n) * sizeof(float));
  return load(values);
}

template <typename T>
HWY_INLINE void store_first(const Lanes& a, T* p, int64_t n) {
  if (n >= kLanes) return store(a, p);
  T values[kLanes];
  store(a, values);
  std::memcpy(p, values, static_cast<size_t>(n) * sizeof(T));
}

HWY_INLINE Lanes zero() { return broadcast(0.0f); }

// first, first + 1, ... first + 15
HWY_INLINE Lanes ramp(float first) {
  alignas(64) static constexpr float kSteps[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return load(kSteps) + broadcast(first);
}

// The one reduction tree: 16 lanes, then 8, 4, 2, 1, each lane with the one half the width away. `op` is
// given as two functions, on registers and on floats.
#if EEP_PLAIN
template <typename Vector, typename Scalar>
HWY_INLINE float fold(const Lanes& a, const Vector&, const Scalar& op) {
  float v[kLanes];
  store(a, v);
  EEP_UNROLL for (int i = 0; i < 8; ++i) v[i] = op(v[i], v[i + 8]);
  EEP_UNROLL for (int i = 0; i < 4; ++i) v[i] = op(v[i], v[i + 4]);
  return op(op(v[0], v[2]), op(v[1], v[3]));
}
#else
template <typename Vector, typename Scalar>
HWY_INLINE float fold(const Lanes& a, const Vector& combine, const Scalar& op) {
  const hn::FixedTag<float, 4> d4;
  float v[4];
#if HWY_MAX_BYTES >= 64
  const hn::FixedTag<float, 8> d8;
  const auto eight = combine(hn::LowerHalf(d8, a.r[0]), hn::UpperHalf(d8, a.r[0]));
  hn::StoreU(combine(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight)), d4, v);
#elif HWY_MAX_BYTES >= 32
  const auto eight = combine(a.r[0], a.r[1]);
  hn::StoreU(combine(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight)), d4, v);
#else
  hn::StoreU(combine(combine(a.r[0], a.r[2]), combine(a.r[1], a.r[3])), d4, v);
#endif
  return op(op(v[0], v[2]), op(v[1], v[3]));
}
#endif

HWY_INLINE float sum_lanes(const Lanes& a) {
  return fold(
      a, [](auto x, auto y) HWY_ATTR { return x + y; }, [](float x, float y) HWY_ATTR { return x + y; });
}

// NaN lanes count as lowest; minus infinity if all are.
HWY_INLINE float max_lanes(const Lanes& a) {
  return fold(
      maximum(a, broadcast(-kInfinity)), [](auto x, auto y) HWY_ATTR { return larger(x, y); },
      [](float x, float y) HWY_ATTR { return x > y ? x : y; });
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
