#include "kernels/common/subsets.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace eep {

int64_t binomial(int32_t n, int32_t k) {
  if (k < 0 || k > n) return 0;
  k = std::min(k, n - k);
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t value = 1;  // C(n - k + i, i)
  for (int32_t i = 1; i <= k; ++i) {
    // value * (n - k + i) / i without leaving int64_t: divide what divides first.
    const int64_t divisor = std::gcd(value, static_cast<int64_t>(i));
    const int64_t factor = (n - k + i) / (i / divisor);  // exact: i / divisor shares nothing with value
    value /= divisor;
    if (value > kMax / factor) return kMax;
    value *= factor;
  }
  return value;
}

std::vector<std::vector<int32_t>> all_subsets(int32_t experts, int32_t kept) {
  std::vector<std::vector<int32_t>> subsets;
  std::vector<int32_t> subset(static_cast<size_t>(kept));
  std::iota(subset.begin(), subset.end(), 0);
  while (true) {
    subsets.push_back(subset);
    // The last element that can still grow; those after it follow closely.
    int32_t i = kept - 1;
    while (i >= 0 && subset[static_cast<size_t>(i)] == experts - kept + i) --i;
    if (i < 0) return subsets;
    ++subset[static_cast<size_t>(i)];
    for (int32_t j = i + 1; j < kept; ++j) {
      subset[static_cast<size_t>(j)] = subset[static_cast<size_t>(j - 1)] + 1;
    }
  }
}

}  // namespace eep
