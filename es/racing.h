// racing: candidates see growing subsets of the fixed items and are dropped as soon as a paired bound says
// that they cannot become parents (after Maron and Moore 1994; F-race, Birattari et al. 2002). The subsets
// are the fronts of one addressed permutation of the items. What races against what is a function of the
// archive.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "es/archive.h"

namespace eep {

constexpr int32_t kMostRaceItems = 1 << 24;  // places in the permutation have an address
constexpr double kLeastRaceErrors = 1.0, kMostRaceErrors = 100.0;

struct RacingConfig {
  bool on = false;
  int32_t first = 64;   // items of the first subset; the next one is twice as large
  double errors = 3.0;  // a candidate is dropped that is so many standard errors below
  int64_t keep = 1;     // the best so many are never raced away: those from which the dev split chooses

  bool operator==(const RacingConfig&) const = default;
};

// Throws Error(kConfig) naming the field.
void check_racing(const RacingConfig& config);

// Sizes of the subsets, ascending; the last one is `items`.
std::vector<int64_t> race_sizes(const RacingConfig& config, int64_t items);

// [items] the order in which items are seen.
std::vector<int32_t> race_order(uint64_t seed, int64_t items);

// Is the mean of `differences` over all items below 0 by more than `errors` standard errors, given those of a
// sample of them? The error is that of sampling without replacement, from a variance to which one more item
// with the largest difference is added: a small sample that agrees with itself is no proof.
bool surely_below(std::span<const double> differences, int64_t items, double errors);

// The best different evaluations on all the fixed items so far, kept up to date one by one: what
// Archive::best_unique(0, size, count) finds, at the cost of `count` comparisons an evaluation.
class Leaders {
 public:
  explicit Leaders(int64_t count) : count_(count) {}

  void add(const Archive& archive, int64_t evaluation);
  bool full() const { return static_cast<int64_t>(best_.size()) >= count_; }
  const std::vector<int64_t>& best() const { return best_; }  // best first, the earliest of equal ones first

 private:
  int64_t count_;
  std::vector<int64_t> best_;
};

}  // namespace eep
