// gauss_newton: the step of a logistic regression in a few directions. A decision is right with probability
// 1 / (1 + sum_k exp(u_k)) over its rivals k; u is taken as linear in the step a, so that
//   f(a) = -sum_t w_t log(1 + sum_k exp(u_tk + (U a)_tk)) - ridge |a|^2 / 2
// is concave, and its maximum is found by damped Newton. U comes from differences of forward passes: a
// Gauss-Newton step without gradients.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/archive.h"

namespace eep {

struct Rivals {
  int32_t directions = 0;
  std::vector<int32_t> end;    // [decisions] end of each decision's rivals
  std::vector<double> weight;  // [decisions]
  std::vector<double> logit;   // [rivals] u at a = 0
  std::vector<double> slope;   // [rivals, directions] U
};

// The rivals of every decision of `center`, with slopes from the same decisions after a move of `length`
// along each direction. A token's rival is everything else: u = log(1 - p) - log p, log p at most -2e-6. A
// multiple-choice item is one decision; its rivals are the other choices: u = log p_other - log p_right.
// Items weigh the same, and so do the tokens of one. Throws Error(kRuntime) if the probes answer other
// decisions than the center.
Rivals make_rivals(const Decisions& center, std::span<const Decisions* const> probes, double length);

// f(a) / (sum of weights is 1): the mean log-probability that the linear model expects, less the ridge term.
double expected_loglik(const Rivals& rivals, std::span<const double> step /* [directions] */, double ridge);

// argmax f, at most `iterations` Newton steps from 0, each halved until f does not fall. ridge > 0.
std::vector<double> ridge_step(const Rivals& rivals, double ridge, int32_t iterations = 6);

// The model at a = 0: what f rises by along a direction, and how it curves.
struct Quadratic {
  std::vector<double> gradient;   // [P]
  std::vector<double> curvature;  // [P, P], symmetric, minus the Hessian
};
Quadratic quadratic_at_zero(const Rivals& rivals);

// Mean log-likelihood of each item: over its tokens, or of the right choice among all.
std::vector<double> item_means(const Decisions& decisions);

// Cholesky: A [n, n] (lower triangle read) becomes L with A = L L^T, in the lower triangle; what stands above
// it stays. false: A is not positive definite.
bool factor_positive(std::vector<double>* a, size_t n);

// Solves A x = b for symmetric positive definite A [n, n] (lower triangle read), in place. false: A is not.
bool solve_positive(std::vector<double>* a, std::vector<double>* b);

}  // namespace eep
