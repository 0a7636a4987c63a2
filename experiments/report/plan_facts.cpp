#include "experiments/report/plan_facts.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace eep {

std::vector<LayerFacts> layer_facts(const ExpertPlan& plan) {
  std::vector<LayerFacts> all;
  for (size_t number = 0; number < plan.groups.size(); ++number) {
    const PlanGroup& group = plan.groups[number];
    LayerFacts facts;
    facts.group = number;
    facts.experts = group.experts;
    facts.kept = group.kept;
    for (int32_t row = 0; row < group.kept; ++row) {
      const float* values =
          group.expert_merging.data() + static_cast<size_t>(row) * static_cast<size_t>(group.experts);
      int32_t largest = 0;
      for (int32_t expert = 1; expert < group.experts; ++expert) {
        if (std::abs(values[expert]) > std::abs(values[largest])) largest = expert;
      }
      facts.receivers.push_back(largest);
      for (int32_t expert = 0; expert < group.experts; ++expert) {
        if (expert != largest && values[expert] != 0.0f)
          facts.donations.push_back({expert, largest, row, values[expert]});
      }
    }
    std::stable_sort(facts.donations.begin(), facts.donations.end(),
                     [](const Donation& a, const Donation& b) {
                       return std::abs(a.coefficient) > std::abs(b.coefficient);
                     });
    for (const int32_t layer : group.layers) {
      facts.layer = layer;
      all.push_back(facts);
    }
  }
  std::sort(all.begin(), all.end(),
            [](const LayerFacts& a, const LayerFacts& b) { return a.layer < b.layer; });
  return all;
}

Agreement keep_list_agreement(const std::vector<LayerFacts>& a, const std::vector<LayerFacts>& b) {
  if (a.size() != b.size() || a.empty()) return {};
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].layer != b[i].layer || a[i].experts != b[i].experts) return {};
    const std::set<int32_t> left(a[i].receivers.begin(), a[i].receivers.end());
    const std::set<int32_t> right(b[i].receivers.begin(), b[i].receivers.end());
    size_t both = 0;
    for (const int32_t expert : left) both += right.count(expert);
    sum += static_cast<double>(both) /
           static_cast<double>(std::max<size_t>(1, left.size() + right.size() - both));
  }
  return {true, sum / static_cast<double>(a.size())};
}

Coverage coverage_of(const LayerFacts& facts, const LayerStatistics& statistics) {
  const std::vector<double>& counts = statistics[ExpertSum::kCount];
  Coverage coverage;
  double total = 0, kept = 0, entropy = 0;
  for (const double count : counts) {
    total += count;
    coverage.never += count == 0 ? 1 : 0;
  }
  const std::set<int32_t> receivers(facts.receivers.begin(), facts.receivers.end());
  for (const int32_t expert : receivers) {
    if (static_cast<size_t>(expert) < counts.size()) kept += counts[static_cast<size_t>(expert)];
  }
  for (const double count : counts) {
    if (count > 0) entropy -= count / total * std::log(count / total);
  }
  coverage.kept_share = total > 0 ? kept / total : 0;
  coverage.effective = total > 0 ? std::exp(entropy) : 0;
  return coverage;
}

std::vector<double> saliency_of(const LayerStatistics& statistics) {
  const std::vector<double>& sums = statistics[ExpertSum::kGateNorm];
  const std::vector<double>& counts = statistics[ExpertSum::kCount];
  std::vector<double> saliency(sums.size(), 0.0);
  for (size_t i = 0; i < sums.size(); ++i) saliency[i] = counts[i] > 0 ? sums[i] / counts[i] : 0;
  return saliency;
}

}  // namespace eep
