// rsgn: random-subspace Gauss-Newton. A generation moves the coefficients theta along P random orthonormal
// directions of their whole space and reads every decision's log-probability, not their mean alone: that is
// a Jacobian [decisions, P], from which a ridge regression (es/gauss_newton.h) makes a step, curvature
// included. The next generation tries the step for three ridges on items that the regression has not seen.
#pragma once

#include <cstdint>

#include "es/parameters.h"

namespace eep {

struct RsgnParameters {
  int32_t directions = 48;     // P
  double length = 0.14142136;  // of a probe's whole move: 0.05 sqrt(8)
  double ridge = 0.2;          // lambda of the first step
  double ridge_least = 1e-3;
  double ridge_most = 5.0;
  // A step that gains less than so many standard errors doubles the shard, up to growth_most times the first.
  double growth_errors = 1.0;
  int32_t growth_most = 4;
  // Three more candidates of a step from what all steps have measured (es/curvature_memory.h): time d^3 a
  // step and memory d^2 for d coefficients, and the decisions of all generations.
  bool memory = false;

  bool operator==(const RsgnParameters&) const = default;
};

void visit(ParameterVisitor& v, RsgnParameters& p);

}  // namespace eep
