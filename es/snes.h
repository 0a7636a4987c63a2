// snes: separable natural evolution strategy (Schaul, Glasmachers, Schmidhuber 2011; Wierstra et al. 2014). A
// normal distribution with its own width for every coefficient: antithetic pairs of samples, ranked by mean
// log-likelihood on the same items; the mean and the logarithms of the widths follow the natural gradient of
// the expected rank. The mean is the result.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/parameters.h"

namespace eep {

struct SnesParameters {
  int32_t pairs = 12;  // of a generation: a sample and its mirror image
  double sigma = 0.1;  // the first width
  double mean_rate = 1.0;
  double sigma_rate = 0.0;  // 0: (3 + ln d) / (5 sqrt d)

  bool operator==(const SnesParameters&) const = default;
};

void visit(ParameterVisitor& v, SnesParameters& p);

// The mean and widths of a distribution, [d] each.
struct SnesState {
  std::vector<double> mean, sigma;
};
// Utility of each of `count` ranks, the best first: max(0, ln(count / 2 + 1) - ln(rank)), normalised to sum
// 1, less 1 / count.
std::vector<double> rank_utilities(size_t count);
// One update. Samples of pair p are mean + sigma z_p and mean - sigma z_p, in this order. z: [pairs, d];
// value: [2 pairs], the larger the better; NaN is the worst.
void snes_update(SnesState* state, std::span<const double> z, std::span<const double> value, double mean_rate,
                 double sigma_rate);

}  // namespace eep
