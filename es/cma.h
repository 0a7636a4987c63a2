// cma: covariance matrix adaptation (Hansen and Ostermeier 2001; Hansen 2016, "The CMA evolution strategy: a
// tutorial", with active weights), for a covariance that is block diagonal. One block of all coefficients is
// CMA-ES; blocks of one are sep-CMA-ES (Ros and Hansen 2008), whose faster learning is taken over to blocks
// of b: c_1 and c_mu times (d + 2) / (b + 2), which is 1 for b = d.
//
// Samples are mean + sigma A z, A A^T = C by Cholesky: the distribution is the one that a symmetric root
// gives, for a twentieth of an eigendecomposition's time; the step size path takes A^-1 y = z in place of
// C^-1/2 y, which is a rotation of it (Krause, Arbones, Igel 2016).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/distribution.h"

namespace eep {

struct CmaBlock {
  size_t first = 0;  // coordinate
  size_t size = 0;
  size_t at = 0;  // of its [size, size] in covariance and factor
};

struct CmaState {
  std::vector<double> mean;  // [d]
  double sigma = 0.0;
  std::vector<double> sigma_path, path;    // [d]
  std::vector<CmaBlock> blocks;            // of all coordinates, in order
  std::vector<double> covariance, factor;  // C and A of each block, lower triangles
  int64_t generation = 0, factored = 0;    // updates so far; those before `factor` was made
};

// Selection weights [count] of the ranks, the best first, and the learning rates that go with them.
struct CmaConstants {
  std::vector<double> weights;  // positive ones sum to 1
  double mu_eff = 0.0, sigma_rate = 0.0, sigma_damping = 0.0, path_rate = 0.0, one_rate = 0.0, mu_rate = 0.0;
  double expected_norm = 0.0;  // of a standard normal vector of d numbers
};
// count: 2 or more samples; block: coefficients of the largest block.
CmaConstants cma_constants(int64_t d, int64_t count, int64_t block);

// Sizes of blocks, which sum to the number of coefficients: one of all if there are at most `most`; else
// layer group by layer group, a group with more than that in runs of whole rows of its matrices.
std::vector<size_t> covariance_blocks(const Genome& shape, int32_t experts, int64_t most);

CmaState cma_begin(std::vector<double> mean, double sigma, std::span<const size_t> blocks);
// y = A z, [count, d]; z: [count, d]. Samples are mean + sigma y.
std::vector<double> cma_directions(const CmaState& state, std::span<const double> z);
// One update by the values [count] of these samples, the larger the better; NaN is the worst.
void cma_update(CmaState* state, std::span<const double> z, std::span<const double> y,
                std::span<const double> value);

// The algorithm: cma, and with blocks of one coefficient sep_cma.
class CmaSearch : public Distribution {
 public:
  // samples: of a generation; 0: 4 + 3 ln d. block: largest block that a covariance is full in.
  CmaSearch(int32_t samples, double sigma, int64_t block) : samples_(samples), sigma_(sigma), block_(block) {}

 protected:
  void start(const Genome& shape, std::vector<double> mean) override;
  const std::vector<double>& mean() const override { return state_.mean; }
  int64_t samples() const override;
  std::vector<double> draw(uint32_t generation, int64_t count) const override;
  void update(uint32_t generation, std::span<const double> value, int64_t done, int64_t all) override;

 private:
  int32_t samples_;
  double sigma_;
  int64_t block_;
  CmaState state_;
  mutable std::vector<double> directions_;  // of the last draw, until the update
  mutable uint32_t drawn_ = 0;              // its generation
};

}  // namespace eep
