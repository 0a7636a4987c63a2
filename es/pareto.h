// pareto: several objectives at once. A genome has a score (larger is better, as the archive compares), a
// size, which parameters grow with, and active experts; smaller is better. One dominates another where it is
// no worse in any objective and better in one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/archive.h"
#include "es/genome.h"
#include "es/search_config.h"

namespace eep {

// Experts that the genome keeps, and those that it activates for a token, summed over layers.
struct GenomeSize {
  int64_t kept = 0;
  int64_t active = 0;

  bool operator==(const GenomeSize&) const = default;
  auto operator<=>(const GenomeSize&) const = default;
};
GenomeSize genome_size(const GenomeSpace& space, const Genome& genome);

// The best `count` of these evaluations (on the same items) by non-dominated sorting (NSGA-II: Deb et al.
// 2002): front by front, within a front those with the widest gap around them first, then the earliest. Equal
// genomes count once.
std::vector<int64_t> pareto_best(const Archive& archive, const GenomeSpace& space, Objectives objectives,
                                 std::span<const int64_t> evaluations, int64_t count);

// Of all evaluations on the fixed items the best of each size that no other one dominates, smallest first.
std::vector<int64_t> pareto_front(const Archive& archive, const GenomeSpace& space, Objectives objectives);

// Of each size the best `count` different genomes on the fixed items, best first; sizes from the smallest.
std::vector<std::vector<int64_t>> best_of_sizes(const Archive& archive, const GenomeSpace& space,
                                                Objectives objectives, int64_t count);

}  // namespace eep
