// Statistics of scores: intervals and paired tests.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace eep {

struct Interval {
  double low = 0, high = 0;
};

double mean(std::span<const double> values);
// Sample standard deviation (n - 1) over the root of n; 0 for fewer than two values.
double standard_error(std::span<const double> values);
// Wilson's 95% interval of a proportion.
Interval wilson_interval(double successes, double n);
// mean +- 1.96 standard errors, within [0, 1].
Interval normal_interval(double mean, double standard_error);

struct Ratio {
  double value = 0;
  Interval ci95;
};
// mean(a) / mean(b) of the same items; the interval is the normal approximation of a - value * b, so that
// what the two have in common narrows it. Nothing where mean(b) is not above 0 or the lengths differ.
std::optional<Ratio> paired_ratio(std::span<const double> a, std::span<const double> b);

// Exact two-sided McNemar test of paired 0/1 scores: the binomial tail of the discordant pairs. 1 if there
// are none.
double mcnemar_exact(std::span<const double> a, std::span<const double> b);
// Two-sided sign-flip test of the mean paired difference by 9,999 addressed draws (and the observed one).
double paired_permutation(std::span<const double> a, std::span<const double> b, uint64_t seed);

}  // namespace eep
