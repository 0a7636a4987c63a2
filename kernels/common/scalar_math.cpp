// scalar_math: range reduction by fused multiply-adds, then the polynomials of fdlibm (Sun, 1993: freely
// usable).
#include "kernels/common/scalar_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace eep {
namespace {

constexpr double kLn2High = 6.93147180369123816490e-01;  // its low 32 bits are zero: n * kLn2High is exact
constexpr double kLn2Low = 1.90821492927058770002e-10;

// sum of c[i] z^i, by Horner
template <typename... Rest>
double polynomial(double z, double c, Rest... rest) {
  if constexpr (sizeof...(rest) == 0) {
    (void)z;
    return c;
  } else {
    return std::fma(polynomial(z, rest...), z, c);
  }
}

double sine_near_zero(double r) {  // |r| <= pi / 4
  const double z = r * r;
  const double p =
      polynomial(z, -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
                 2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10);
  return std::fma(z * r, p, r);
}

double cosine_near_zero(double r) {  // |r| <= pi / 4
  const double z = r * r;
  const double p =
      polynomial(z, 4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
                 -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11);
  return std::fma(z * z, p, std::fma(z, -0.5, 1.0));
}

}  // namespace

// x = 2^k m, m in [sqrt(1/2), sqrt(2)); f = m - 1, s = f / (2 + f), log m = f - (f^2 / 2 - s (f^2 / 2 +
// R(s^2)))
double logarithm(double x) {
  if (x == 0) return -std::numeric_limits<double>::infinity();
  if (!(x > 0) || x == std::numeric_limits<double>::infinity()) {
    return x > 0 ? x : std::numeric_limits<double>::quiet_NaN();
  }
  uint64_t bits = std::bit_cast<uint64_t>(x);
  const uint64_t shifted = bits + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
  const double k = static_cast<double>(static_cast<int64_t>(shifted >> 52) - 1023);
  bits = (shifted & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu;
  const double f = std::bit_cast<double>(bits) - 1.0;
  const double s = f / (2.0 + f), z = s * s, half = 0.5 * f * f;
  const double r =
      z * polynomial(z, 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
                     2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
                     1.479819860511658591e-01);
  return k * kLn2High - ((half - std::fma(s, half + r, k * kLn2Low)) - f);
}

// x = n ln 2 + r; e^r by its Taylor polynomial of degree 13, whose remainder is below 2^-57 for |r| < 0.35
double exponential_double(double x) {
  const double n = std::nearbyint(x * 1.44269504088896338700e+00);
  const double r = std::fma(-n, kLn2Low, std::fma(-n, kLn2High, x));
  const double p =
      polynomial(r, 1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
                 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800);
  return std::ldexp(p, static_cast<int>(n));
}

double sigmoid_double(double x) {
  const double e = exponential_double(-std::min(std::fabs(x), 700.0));
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

// x = n pi/2 + r with pi/2 in three parts, each product and difference rounded once
SineCosine sine_cosine(double x) {
  const double n = std::nearbyint(x * 6.36619772367581382433e-01);
  double r = std::fma(-n, 1.57079632679489655800e+00, x);
  r = std::fma(-n, 6.12323399573676603587e-17, r);
  r = std::fma(-n, -1.49738490485916983e-33, r);
  const double sine = sine_near_zero(r), cosine = cosine_near_zero(r);
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace eep
