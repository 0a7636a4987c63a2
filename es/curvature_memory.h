// curvature_memory: what the steps of rsgn have learnt of the whole space of coefficients. A quadratic model
// of the mean log-likelihood at theta, gradient g [d] and curvature F [d, d], to which every set of
// orthonormal directions adds what it measured:
//   g += r D^T (y - D g),  F += r D^T (S - D F D^T) D,  r = 0.8
// with y, S the gradient and curvature along the rows of D. F begins at I trace(S) / P.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/gauss_newton.h"

namespace eep {

class CurvatureMemory {
 public:
  // d coefficients: 8 d (d + 1) bytes, and as much again while a step is made.
  explicit CurvatureMemory(size_t d) : d_(d) {}

  void learn(std::span<const double> rows /* [P, d] orthonormal */, const Quadratic& measured);
  // theta has moved by `step`.
  void move(std::span<const double> step /* [d] */);
  // (F + ridge I)^-1 g; the ridge is doubled until that matrix is positive definite. [d]
  std::vector<double> step(double ridge) const;
  bool empty() const { return curvature_.empty(); }

 private:
  size_t d_;
  std::vector<double> gradient_;   // [d]
  std::vector<double> curvature_;  // [d, d]
};

}  // namespace eep
