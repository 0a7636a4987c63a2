// simd and simd_math on every target: conversions equal kernels/common/float16.h, vectors equal their scalar
// twins, exp within 2 ulp of the double one, reductions in the one fixed order.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/test_simd_math.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd_math.h"
#include "tests/kernels/support.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// function: 0 exp, 1 sigmoid, 2 silu; count is a multiple of 16
void apply_vector(int function, const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Lanes value = load(x + i);
    store(function == 0 ? exponential(value) : function == 1 ? sigmoid(value) : silu(value), out + i);
  }
}
void apply_scalar(int function, const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = function == 0 ? exponential(x[i]) : function == 1 ? sigmoid(x[i]) : silu(x[i]);
  }
}

void widen_bf16(const uint16_t* bits, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kLanes) store(load(reinterpret_cast<const Bf16*>(bits) + i), out + i);
}
void widen_f16(const uint16_t* bits, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kLanes) store(load(reinterpret_cast<const F16*>(bits) + i), out + i);
}
void narrow_bf16(const float* x, int64_t count, uint16_t* bits) {
  for (int64_t i = 0; i < count; i += kLanes) store(load(x + i), reinterpret_cast<Bf16*>(bits) + i);
}
void narrow_f16(const float* x, int64_t count, uint16_t* bits) {
  for (int64_t i = 0; i < count; i += kLanes) store(load(x + i), reinterpret_cast<F16*>(bits) + i);
}

// out: sum_lanes, max_lanes of x[0..n), lanes beyond n filled with 1
void reduce(const float* x, int64_t n, float* out) {
  out[0] = sum_lanes(load_first(x, n, 1.0f));
  out[1] = max_lanes(load_first(x, n, 1.0f));
}

// maximum and select_less, lane by lane
void compare(const float* a, const float* b, float* largest, float* less) {
  store(maximum(load(a), load(b)), largest);
  store(select_less(load(a), load(b), broadcast(1.0f), zero()), less);
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cmath>
#include <limits>

namespace eep {
HWY_EXPORT(apply_vector);
HWY_EXPORT(apply_scalar);
HWY_EXPORT(widen_bf16);
HWY_EXPORT(widen_f16);
HWY_EXPORT(narrow_bf16);
HWY_EXPORT(narrow_f16);
HWY_EXPORT(reduce);
HWY_EXPORT(compare);
}  // namespace eep

using namespace eep;
using namespace eep::test;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kHuge = std::numeric_limits<float>::infinity();

// Floats of every exponent, random mantissas, and the values where conversions turn. count is a multiple
// of 16.
Floats difficult_floats() {
  Floats x;
  Data data(7);
  for (uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (int i = 0; i < 64; ++i) {
      const uint32_t mantissa = static_cast<uint32_t>(data.below(1 << 23));
      // Half of them exactly on or one beside the halfway point of a bf16 or f16 rounding.
      const uint32_t kept[] = {mantissa, (mantissa & 0x7f0000) | 0x8000, (mantissa & 0x7fe000) | 0x1000,
                               ((mantissa & 0x7fe000) | 0x1000) + 1};
      const uint32_t sign = static_cast<uint32_t>(i & 1) << 31;
      x.push_back(std::bit_cast<float>(sign | exponent << 23 | kept[(i / 2) % 4]));
    }
  }
  for (float value : {0.0f, -0.0f, kHuge, -kHuge, 65504.0f, 65519.0f, 65520.0f, 65536.0f, 0x1p-24f, 0x1p-25f,
                      0x1.000002p-25f, 0x1p-14f, 3.3895314e38f, 3.4e38f, 1.0f, -1.0f}) {
    x.push_back(value);
  }
  return x;
}

template <typename Run>
void on_every_target(const Run& run) {
  for (const std::string& target : cpu_targets()) {
    CAPTURE(target);
    set_cpu_target(target);
    run();
  }
  set_cpu_target("auto");
}

}  // namespace

TEST_CASE("simd_math: exp, sigmoid, silu equal their scalar twins and the double functions within 2 ulp") {
  Floats x;
  for (int i = 0; i < 40000; ++i) x.push_back(-90.0f + 0.0045f * static_cast<float>(i));
  for (float value : {0.0f, -0.0f, -87.0f, 88.0f, 1e-30f, -1e-30f, kHuge, -kHuge, 1e38f, -1e38f, -87.00001f,
                      88.00001f, 0.34657359f, -0.34657359f, 1.0f, -1.0f}) {
    x.push_back(value);
  }
  for (int function = 0; function < 3; ++function) {
    CAPTURE(function);
    Floats expected;
    on_every_target([&] {
      Floats vector(x.size()), scalar(x.size());
      HWY_DYNAMIC_DISPATCH(apply_vector)(function, x.data(), static_cast<int64_t>(x.size()), vector.data());
      HWY_DYNAMIC_DISPATCH(apply_scalar)(function, x.data(), static_cast<int64_t>(x.size()), scalar.data());
      if (expected.empty()) expected = vector;
      CHECK(same_bits(vector, expected));
      CHECK(same_bits(scalar, expected));
    });
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = static_cast<double>(x[i]);
      if (!(std::fabs(v) <= 87)) continue;
      // sigmoid and silu add two roundings, in the sum and in the quotient: 2 ulp + 1
      const double e = std::exp(v), s = 1 / (1 + std::exp(-v));
      const double exact = function == 0 ? e : function == 1 ? s : v * s;
      const double ulp = std::ldexp(1.0, std::ilogb(exact == 0 ? 1e-30 : exact) - 23);
      worst = std::max(worst, std::fabs(static_cast<double>(expected[i]) - exact) / ulp);
    }
    CAPTURE(worst);
    CHECK(worst <= (function == 0 ? 2.0 : 3.0));
  }
}

TEST_CASE("simd_math: exp at the ends of its range and of NaN") {
  const Floats x = {kNan,
                    -kNan,
                    kHuge,
                    -kHuge,
                    89.0f,
                    88.5f,
                    -87.5f,
                    -1e10f,
                    1e10f,
                    0.0f,
                    std::bit_cast<float>(0x7f812345u),
                    0,
                    0,
                    0,
                    0,
                    0};
  on_every_target([&] {
    Floats y(16);
    HWY_DYNAMIC_DISPATCH(apply_vector)(0, x.data(), 16, y.data());
    for (int i : {0, 1, 10}) CHECK(std::isnan(y[static_cast<size_t>(i)]));
    for (int i : {2, 4, 5, 8}) CHECK(y[static_cast<size_t>(i)] == kHuge);
    for (int i : {3, 6, 7}) CHECK(y[static_cast<size_t>(i)] == 0.0f);
    CHECK(y[9] == 1.0f);
  });
}

TEST_CASE("simd: all 65536 values of bf16 and f16 widen as in float16.h") {
  std::vector<uint16_t> bits(65536);
  Floats bf16, f16;
  for (uint32_t i = 0; i < 65536; ++i) {
    bits[i] = static_cast<uint16_t>(i);
    bf16.push_back(bf16_to_f32(bits[i]));
    f16.push_back(f16_to_f32(bits[i]));
  }
  on_every_target([&] {
    Floats out(65536);
    HWY_DYNAMIC_DISPATCH(widen_bf16)(bits.data(), 65536, out.data());
    CHECK(same_bits(out, bf16));
    HWY_DYNAMIC_DISPATCH(widen_f16)(bits.data(), 65536, out.data());
    CHECK(same_bits(out, f16));
  });
}

TEST_CASE("simd: floats of every exponent, ties and NaN narrow as in float16.h") {
  Floats x = difficult_floats();
  for (int i = 0; i < 16; ++i)
    x.push_back(std::bit_cast<float>(0x7f800001u + static_cast<uint32_t>(i) * 0x12345u));
  std::vector<uint16_t> bf16, f16;
  for (float value : x) {
    bf16.push_back(f32_to_bf16(value));
    f16.push_back(f32_to_f16(value));
  }
  on_every_target([&] {
    std::vector<uint16_t> out(x.size());
    HWY_DYNAMIC_DISPATCH(narrow_bf16)(x.data(), static_cast<int64_t>(x.size()), out.data());
    CHECK(same_bits(out, bf16));
    HWY_DYNAMIC_DISPATCH(narrow_f16)(x.data(), static_cast<int64_t>(x.size()), out.data());
    CHECK(same_bits(out, f16));
  });
}

TEST_CASE("simd: sums take the fixed tree, maxima ignore NaN") {
  Data data(8);
  const Floats x = data.floats(16, 1000.0f);
  for (int64_t n = 0; n <= 16; ++n) {
    CAPTURE(n);
    Floats v(16, 1.0f);
    std::copy_n(x.begin(), n, v.begin());
    const float largest = *std::max_element(v.begin(), v.end());
    for (int width = 8; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) v[static_cast<size_t>(i)] += v[static_cast<size_t>(i + width)];
    }
    on_every_target([&] {
      float out[2];
      HWY_DYNAMIC_DISPATCH(reduce)(x.data(), n, out);
      CHECK(out[0] == v[0]);
      CHECK(out[1] == largest);
    });
  }
  Floats with_nan(16, kNan);
  on_every_target([&] {
    float out[2];
    HWY_DYNAMIC_DISPATCH(reduce)(with_nan.data(), 16, out);
    CHECK(out[1] == -kHuge);
    with_nan[5] = -3;
    HWY_DYNAMIC_DISPATCH(reduce)(with_nan.data(), 16, out);
    CHECK(out[1] == -3.0f);
    with_nan[5] = kNan;
  });
}

TEST_CASE("simd: maximum and comparison with NaN and zeros are those of the plain path") {
  const Floats special = {0.0f, -0.0f, 1.0f, -1.0f, kNan, kHuge, -kHuge, 1e-40f};
  for (float first : special) {
    Floats a(16, first), b;
    for (int i = 0; i < 16; ++i) b.push_back(special[static_cast<size_t>(i % 8)]);
    on_every_target([&] {
      Floats largest(16), less(16);
      HWY_DYNAMIC_DISPATCH(compare)(a.data(), b.data(), largest.data(), less.data());
      for (size_t i = 0; i < 16; ++i) {
        const float expected = a[i] > b[i] ? a[i] : b[i];
        CHECK(same_bits(&largest[i], &expected, 1));
        CHECK(less[i] == (a[i] < b[i] ? 1.0f : 0.0f));
      }
    });
  }
}
#endif
