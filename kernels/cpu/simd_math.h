// exp, sigmoid and silu as our own polynomials over exactly rounded operations, each written once as a
// template over the value: Lanes for vectors, float for scalars. The two give the same bits, and so does
// every target.
//
//   exp(x) = 2^n e^r,  n = round(x / ln 2),  r = x - n ln 2 in two steps,  e^r = 1 + r + r^2 q(r), |r| < 0.35
//
// Relative error below 2 ulp for x in [-87, 88]; 0 below, infinity above, NaN for NaN.
#if defined(EEP_KERNELS_SIMD_MATH_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EEP_KERNELS_SIMD_MATH_H_
#undef EEP_KERNELS_SIMD_MATH_H_
#else
#define EEP_KERNELS_SIMD_MATH_H_
#endif

#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// ---- scalar twins of the Lanes operations

HWY_INLINE float fma(float a, float b, float c) { return std::fma(a, b, c); }
HWY_INLINE float fnma(float a, float b, float c) { return std::fma(-a, b, c); }
HWY_INLINE float select_less(float a, float b, float yes, float no) { return a < b ? yes : no; }
HWY_INLINE float add_exponent(float a, float t) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(a) + (std::bit_cast<uint32_t>(t) << 23));
}

template <typename Value>
HWY_INLINE Value constant(float value) {
  if constexpr (sizeof(Value) == sizeof(float)) {
    return value;
  } else {
    return broadcast(value);
  }
}

// ---- functions

template <typename Value>
HWY_INLINE Value exponential(const Value& x) {
  const auto c = [](float value) HWY_ATTR { return constant<Value>(value); };
  const float kMagic =
      12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which the low bits then hold
  const Value t = fma(x, c(1.44269504f), c(kMagic));
  const Value n = t - c(kMagic);
  const Value r = fnma(n, c(-2.12194440e-4f), fnma(n, c(0.693359375f), x));
  Value q = c(1.9875691500e-4f);  // q: Cephes' expf
  q = fma(q, r, c(1.3981999507e-3f));
  q = fma(q, r, c(8.3334519073e-3f));
  q = fma(q, r, c(4.1665795894e-2f));
  q = fma(q, r, c(1.6666665459e-1f));
  q = fma(q, r, c(5.0000001201e-1f));
  const Value power = fma(q * r, r, r) + c(1.0f);
  const Value inside = add_exponent(power, t);
  const Value high = select_less(x, c(88.0f), inside, x + c(kInfinity));  // NaN + infinity is NaN
  return select_less(x, c(-87.0f), c(0.0f), high);
}

template <typename Value>
HWY_INLINE Value sigmoid(const Value& x) {
  const Value one = constant<Value>(1.0f);
  return one / (one + exponential(constant<Value>(0.0f) - x));
}

template <typename Value>
HWY_INLINE Value silu(const Value& x) {
  const Value one = constant<Value>(1.0f);
  return x / (one + exponential(constant<Value>(0.0f) - x));
}

// What an expert makes of gate and up (expert_ffn.h). NaN stays NaN.
HWY_INLINE Lanes gated_unit(Lanes gate, Lanes up, float limit, float alpha) {
  if (limit == 0.0f) return silu(gate) * up;
  const Lanes high = broadcast(limit), low = broadcast(-limit);
  gate = select_less(high, gate, high, gate);
  up = select_less(high, up, high, up);
  up = select_less(up, low, low, up);
  return (up + broadcast(1.0f)) * (gate * sigmoid(gate * broadcast(alpha)));
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
