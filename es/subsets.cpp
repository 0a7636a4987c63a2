// Kept subsets that are tried where there are too many for all.
#include "kernels/common/subsets.h"

#include <algorithm>
#include <set>

#include "es/criteria.h"
#include "es/random.h"

namespace eep {

std::vector<std::vector<int32_t>> sample_subsets(int32_t experts, int32_t kept, int64_t count, uint64_t seed,
                                                 const std::vector<std::vector<int32_t>>& always) {
  if (binomial(experts, kept) <= count) return all_subsets(experts, kept);
  std::vector<std::vector<int32_t>> subsets;
  std::set<std::vector<int32_t>> seen;
  const auto add = [&](std::vector<int32_t> subset) {
    std::sort(subset.begin(), subset.end());
    if (static_cast<int64_t>(subsets.size()) < count && seen.insert(subset).second) {
      subsets.push_back(std::move(subset));
    }
  };
  for (const std::vector<int32_t>& subset : always) add(subset);
  // Of more than `count` subsets less than all are seen, so the draws end: coupon collector's bound.
  for (uint32_t draw = 0; static_cast<int64_t>(subsets.size()) < count; ++draw) {
    Address address{seed, Purpose::kSubset};
    address.individual = draw & 0xfffff;
    address.generation = draw >> 20;
    address.group = static_cast<uint32_t>(kept);
    add(random_subset(address, experts, kept));
  }
  return subsets;
}

}  // namespace eep
