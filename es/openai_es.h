// openai_es: evolution strategy by a smoothed gradient (Salimans, Ho, Chen, Sidor, Sutskever 2017).
// Antithetic pairs mean +- sigma z of one fixed width, centred ranks in [-1/2, 1/2] as values,
//   g = sum over pairs (u+ - u-) z,   v = momentum v + (1 - momentum) g / rms(g),
//   mean += rate (1 - done / all) v / rms(v):
// the first step moves a coefficient by `rate` (root mean square), the last by next to nothing, since a fixed
// width does not say when it has arrived. The mean is the result.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/parameters.h"

namespace eep {

struct OpenaiEsParameters {
  int32_t pairs = 16;  // of a generation: a sample and its mirror image
  double sigma = 0.05;
  double rate = 0.03;
  double momentum = 0.5;

  bool operator==(const OpenaiEsParameters&) const = default;
};

void visit(ParameterVisitor& v, OpenaiEsParameters& p);

// [d] each.
struct OpenaiEsState {
  std::vector<double> mean, velocity;
};
// One update by a step of root mean square `step`. Samples of pair p are mean + sigma z_p and mean - sigma
// z_p, in this order. z: [pairs, d]; value: [2 pairs], the larger the better; NaN is the worst.
void openai_es_update(OpenaiEsState* state, std::span<const double> z, std::span<const double> value,
                      double momentum, double step);

}  // namespace eep
