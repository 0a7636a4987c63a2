#include "es/redundancy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace eep {
namespace {

const SubsetErrors* errors_at(const LayerStatistics& layer, int32_t kept) {
  for (const SubsetErrors& errors : layer.subset_errors) {
    if (errors.kept == kept && !errors.error.empty() && errors.norm > 0) return &errors;
  }
  return nullptr;
}

std::optional<RedundancyPoint> point_at(const ExpertStatistics& statistics, int32_t kept) {
  RedundancyPoint point;
  point.kept = kept;
  point.worst = -1;
  for (const LayerStatistics& layer : statistics.layers) {
    const SubsetErrors* const errors = errors_at(layer, kept);
    if (errors == nullptr) return std::nullopt;
    const double moved = *std::min_element(errors->error.begin(), errors->error.end()) / errors->norm;
    point.mean += moved / static_cast<double>(statistics.layers.size());
    point.exhaustive = point.exhaustive && errors->exhaustive;
    if (moved > point.worst) {
      point.worst = moved;
      point.worst_layer = layer.layer;
    }
  }
  return point;
}

std::string percents(const RedundancyPoint& point) {
  return fmt::format("{:.1f} % (worst layer {}: {:.1f} %)", 100 * point.mean, point.worst_layer,
                     100 * point.worst);
}

}  // namespace

std::vector<RedundancyPoint> redundancy_curve(const ExpertStatistics& statistics) {
  std::vector<RedundancyPoint> curve;
  if (statistics.layers.empty()) return curve;
  for (const SubsetErrors& errors : statistics.layers[0].subset_errors) {
    if (const std::optional<RedundancyPoint> point = point_at(statistics, errors.kept))
      curve.push_back(*point);
  }
  std::sort(curve.begin(), curve.end(),
            [](const RedundancyPoint& a, const RedundancyPoint& b) { return a.kept < b.kept; });
  return curve;
}

double effective_experts(const ExpertStatistics& statistics) {
  double mean = 0;
  for (const LayerStatistics& layer : statistics.layers) {
    double sum = 0, entropy = 0;
    for (const double count : layer[ExpertSum::kCount]) sum += count;
    if (!(sum > 0)) return 0;
    for (const double count : layer[ExpertSum::kCount]) {
      if (count > 0) entropy -= count / sum * std::log(count / sum);
    }
    mean += std::exp(entropy) / static_cast<double>(statistics.layers.size());
  }
  return mean;
}

std::string redundancy_table(const ExpertStatistics& statistics) {
  const std::vector<RedundancyPoint> curve = redundancy_curve(statistics);
  if (curve.empty()) return "";
  std::string text = fmt::format(
      "redundancy: the calls are spread as over {:.1f} of {} experts; with the best subset of each layer "
      "the\n"
      "outputs of the expert blocks move by (0 %: nothing is lost)\n",
      effective_experts(statistics), statistics.experts);
  for (const RedundancyPoint& point : curve) {
    text += fmt::format("{:>5} of {}: {}{}\n", point.kept, statistics.experts, percents(point),
                        point.exhaustive ? "" : ", of sampled subsets");
  }
  return text;
}

std::string redundancy_line(const ExpertStatistics& statistics, int32_t kept) {
  if (statistics.layers.empty()) return "";
  const std::optional<RedundancyPoint> point = point_at(statistics, kept);
  if (!point) return "";
  return fmt::format(
      "redundancy: with the best {} of {} experts a layer{} the outputs of the expert blocks move by {}; the "
      "calls are spread as over {:.1f} experts",
      kept, statistics.experts, point->exhaustive ? "" : ", of sampled subsets,", percents(*point),
      effective_experts(statistics));
}

}  // namespace eep
