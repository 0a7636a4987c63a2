#include "es/coordinates.h"

#include <algorithm>
#include <cmath>

#include "es/random.h"

namespace eep {
namespace {

// Columns have 16 bits of an address; the rest of a coordinate's number is its group.
double gaussian(uint64_t seed, uint32_t basis, int64_t row, int64_t column) {
  return random_normal({seed, Purpose::kDirection, basis, 0, static_cast<uint32_t>(column >> 16),
                        static_cast<uint32_t>(row), static_cast<uint32_t>(column & 0xffff)});
}

double dot(const double* a, const double* b, size_t n) {
  double sum = 0.0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

int64_t dimensions(const GenomeSpace& space) {
  int64_t count = 0;
  for (const int32_t kept : space.kept) count += 2 * int64_t{kept} * space.experts;
  return count;
}

std::vector<double> to_coordinates(const Genome& genome) {
  std::vector<double> coordinates;
  for (const GroupGenes& group : genome.groups) {
    coordinates.insert(coordinates.end(), group.w_em.begin(), group.w_em.end());
    coordinates.insert(coordinates.end(), group.w_rm.begin(), group.w_rm.end());
  }
  return coordinates;
}

Genome from_coordinates(const Genome& shape, std::span<const double> coordinates) {
  Genome genome = shape;
  size_t at = 0;
  for (GroupGenes& group : genome.groups) {
    for (float& value : group.w_em) value = static_cast<float>(coordinates[at++]);
    for (float& value : group.w_rm) value = static_cast<float>(coordinates[at++]);
  }
  return genome;
}

int64_t RandomBasis::rows() const { return dimensions_ <= 1024 ? dimensions_ : 512; }

std::vector<double> RandomBasis::rows(uint32_t basis, int64_t first, int64_t count) {
  const auto d = static_cast<size_t>(dimensions_);
  if (basis != basis_) made_.clear();
  basis_ = basis;
  while (made_.size() < static_cast<size_t>(first + count) * d) {
    const size_t before = made_.size() / d;
    std::vector<double> row(d);
    for (size_t i = 0; i < d; ++i) {
      row[i] = gaussian(seed_, basis, static_cast<int64_t>(before), static_cast<int64_t>(i));
    }
    for (int pass = 0; pass < 2; ++pass) {  // once leaves what rounding made
      for (size_t other = 0; other < before; ++other) {
        const double* known = made_.data() + other * d;
        const double along = dot(row.data(), known, d);
        for (size_t i = 0; i < d; ++i) row[i] -= along * known[i];
      }
      const double length = std::sqrt(dot(row.data(), row.data(), d));
      for (double& value : row) value /= length;
    }
    made_.insert(made_.end(), row.begin(), row.end());
  }
  const auto begin = made_.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(first) * d);
  return {begin, begin + static_cast<ptrdiff_t>(static_cast<size_t>(count) * d)};
}

}  // namespace eep
