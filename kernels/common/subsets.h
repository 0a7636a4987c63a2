// Subsets of experts: how many, and all of them.
#pragma once

#include <cstdint>
#include <vector>

namespace eep {

// C(n, k), INT64_MAX if it is larger.
int64_t binomial(int32_t n, int32_t k);

// All subsets of `kept` of `experts`, ascending, in lexicographic order.
std::vector<std::vector<int32_t>> all_subsets(int32_t experts, int32_t kept);

}  // namespace eep
