#include "es/allocation.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <string>

#include "es/criteria_pairs.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

// [experts] of a layer, the largest first, divided by their sum; a layer without signal: equal shares. What
// ranks the merging criteria's centroids is their use.
std::vector<double> sorted_shares(const LayerStatistics& layer, const CriterionRow& criterion,
                                  size_t experts) {
  const bool merges = criterion.merge != nullptr;
  if (criterion.scores == nullptr && !merges) {
    throw Error(
        ExitCode::kConfig, "--allocation",
        std::string(criterion.name) + " gives no score to single experts (expected uniform or layer_error)");
  }
  std::vector<double> shares = merges ? layer[ExpertSum::kCount] : criterion.scores(layer);
  require_statistics(criterion.name, layer.layer, shares.size(), experts);
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share = sum > 0 ? share / sum : 1 / static_cast<double>(experts);
  std::sort(shares.begin(), shares.end(), std::greater<>());
  return shares;
}

// The places (layer, rank) of lowest key get an expert each, beyond `least` a layer, until the budget is
// spent; ties to the lower layer. Keys of a layer do not fall with the rank.
std::vector<int32_t> lowest_keys(const std::vector<std::vector<double>>& keys, int32_t kept, int32_t least) {
  struct Place {
    double key;
    size_t layer;
    size_t rank;
  };
  std::vector<Place> places;
  for (size_t layer = 0; layer < keys.size(); ++layer) {
    for (size_t rank = static_cast<size_t>(least); rank < keys[layer].size(); ++rank)
      places.push_back({keys[layer][rank], layer, rank});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    if (a.key != b.key) return a.key < b.key;
    return a.rank != b.rank ? a.rank < b.rank : a.layer < b.layer;
  });
  std::vector<int32_t> counts(keys.size(), least);
  const size_t spare = keys.size() * static_cast<size_t>(kept - least);
  for (size_t i = 0; i < spare; ++i) ++counts[places[i].layer];
  return counts;
}

std::vector<int32_t> uniform(const ExpertStatistics& statistics, const CriterionRow& /*criterion*/,
                             int32_t kept, int32_t /*least*/) {
  return std::vector<int32_t>(statistics.layers.size(), kept);
}

std::vector<int32_t> global(const ExpertStatistics& statistics, const CriterionRow& criterion, int32_t kept,
                            int32_t least) {
  std::vector<std::vector<double>> keys;
  for (const LayerStatistics& layer : statistics.layers) {
    keys.push_back(sorted_shares(layer, criterion, static_cast<size_t>(statistics.experts)));
    for (double& key : keys.back()) key = -key;
  }
  return lowest_keys(keys, kept, least);
}

// The expert of rank r is in the smallest set that covers alpha iff the ranks before it cover less than
// alpha: so the lowest sums before are taken, and no alpha need be found.
std::vector<int32_t> alpha_mass(const ExpertStatistics& statistics, const CriterionRow& criterion,
                                int32_t kept, int32_t least) {
  std::vector<std::vector<double>> keys;
  for (const LayerStatistics& layer : statistics.layers) {
    const std::vector<double> shares =
        sorted_shares(layer, criterion, static_cast<size_t>(statistics.experts));
    std::vector<double> before{0};
    for (size_t rank = 1; rank < shares.size(); ++rank) before.push_back(before.back() + shares[rank - 1]);
    keys.push_back(std::move(before));
  }
  return lowest_keys(keys, kept, least);
}

// Proportional to the least error of a layer's subsets of `kept` experts: the next expert goes to the layer
// of largest error / (experts so far + 1/2) (Sainte-Lague).
std::vector<int32_t> layer_error(const ExpertStatistics& statistics, const CriterionRow& /*criterion*/,
                                 int32_t kept, int32_t least) {
  std::vector<std::vector<double>> keys;
  for (const LayerStatistics& layer : statistics.layers) {
    const auto found = std::find_if(
        layer.subset_errors.begin(), layer.subset_errors.end(),
        [&](const SubsetErrors& errors) { return errors.kept == kept && !errors.error.empty(); });
    if (found == layer.subset_errors.end()) {
      throw Error(ExitCode::kData, "statistics",
                  "no subset errors for " + std::to_string(kept) + " kept experts in layer " +
                      std::to_string(layer.layer),
                  "calibrate with --experts " + std::to_string(kept));
    }
    const double error = *std::min_element(found->error.begin(), found->error.end());
    keys.emplace_back();
    for (int32_t rank = 0; rank < statistics.experts; ++rank) keys.back().push_back(-error / (rank + 0.5));
  }
  return lowest_keys(keys, kept, least);
}

constexpr std::array kAllocations{
    AllocationRow{"uniform", "the same number in every layer", uniform},
    AllocationRow{"global", "the highest scores of all layers, each layer's divided by their sum", global},
    AllocationRow{"alpha_mass", "in each layer the fewest experts that cover the same share of its score",
                  alpha_mass},
    AllocationRow{"layer_error", "in proportion to the layer's least error (naee) at the mean number",
                  layer_error},
};

}  // namespace

std::span<const AllocationRow> allocations() { return kAllocations; }

std::vector<int32_t> allocate(const AllocationRow& rule, const ExpertStatistics& statistics,
                              const CriterionRow& criterion, int32_t kept, int32_t least) {
  if (kept < 1 || kept > statistics.experts || least < 1 || least > kept) {
    throw Error(ExitCode::kConfig, "--allocation",
                "impossible counts" +
                    expected_got("1 <= least <= mean <= " + std::to_string(statistics.experts),
                                 "least " + std::to_string(least) + ", mean " + std::to_string(kept)));
  }
  return rule.counts(statistics, criterion, kept, least);
}

}  // namespace eep
