// coordinates: a genome's coefficients as one vector, for algorithms that see R^d. Group by group W_EM, then
// W_RM, each [kept, experts].
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/genome.h"

namespace eep {

int64_t dimensions(const GenomeSpace& space);
std::vector<double> to_coordinates(const Genome& genome);
// Rounded to f32. `shape` gives the sizes.
Genome from_coordinates(const Genome& shape, std::span<const double> coordinates);

// Rows [first, first + count) of a random basis of R^d with orthonormal rows: Gaussian rows of the address
// (seed, kDirection, basis, row, column), each made orthogonal to all before it, twice. Rows are kept, so
// that the next call goes on where this one ended; what they are depends on the address alone.
class RandomBasis {
 public:
  RandomBasis(uint64_t seed, int64_t dimensions) : seed_(seed), dimensions_(dimensions) {}
  // Rows that a basis has: all of d, or 512 where more would cost more than the evaluations that use them.
  int64_t rows() const;
  // [count, d]; first + count at most rows().
  std::vector<double> rows(uint32_t basis, int64_t first, int64_t count);

 private:
  uint64_t seed_;
  int64_t dimensions_;
  uint32_t basis_ = 0;
  std::vector<double> made_;  // [rows so far, d] of basis_
};

}  // namespace eep
