// log, exp, sine and cosine in double, from exactly rounded operations alone: same bits on every machine and
// with every compiler. For tables, random numbers and the one logarithm of a log-softmax; not for inner
// loops.
#pragma once

namespace eep {

// Natural logarithm of x > 0, normal; error below 1 ulp. 0 gives minus infinity, NaN and negatives NaN.
double logarithm(double x);

// e^x for |x| < 700; error below 2 ulp.
double exponential_double(double x);

// 1 / (1 + e^-x) of any x but NaN; error below 4 ulp.
double sigmoid_double(double x);

// Sine and cosine of |x| < 2^30; error below 1 ulp of max(|result|, 2^-50).
struct SineCosine {
  double sine = 0, cosine = 0;
};
SineCosine sine_cosine(double x);

}  // namespace eep
