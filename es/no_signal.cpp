#include "es/no_signal.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/common/error.h"

namespace eep {
namespace {

constexpr size_t kMostLines = 12;
constexpr size_t kMostExperts = 16;  // of a line

std::string list_of(const std::vector<int32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size() && i < kMostExperts; ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(numbers[i]);
  if (numbers.size() > kMostExperts) text += fmt::format(" and {} more", numbers.size() - kMostExperts);
  return text;
}

std::string plural(size_t count, const std::string& one) { return count == 1 ? one : one + "s"; }

void shorten(std::vector<std::string>& lines, const std::string& what) {
  if (lines.size() <= kMostLines) return;
  const size_t rest = lines.size() - kMostLines;
  lines.resize(kMostLines);
  lines.push_back(fmt::format("{} further layers {}", rest, what));
}

std::vector<std::string> never_routed(const ExpertStatistics& statistics) {
  std::vector<std::string> lines;
  for (const LayerStatistics& layer : statistics.layers) {
    std::vector<int32_t> experts;
    for (size_t e = 0; e < layer[ExpertSum::kCount].size(); ++e) {
      if (layer[ExpertSum::kCount][e] == 0) experts.push_back(static_cast<int32_t>(e));
    }
    if (experts.empty()) continue;
    lines.push_back(fmt::format("layer {}: no token was routed to {} {}", layer.layer,
                                plural(experts.size(), "expert"), list_of(experts)));
  }
  shorten(lines, "have experts that no token was routed to");
  return lines;
}

// The least score that stays equals the largest that goes.
std::vector<std::string> ties(const ExpertStatistics& statistics, const Criterion& criterion,
                              const ExpertPlan& plan) {
  std::vector<std::string> lines;
  for (const PlanGroup& group : plan.groups) {
    const std::vector<int32_t> kept = one_hot_rows(group.expert_merging, group.kept, group.experts);
    const std::vector<double> scores = group_scores(statistics, *criterion.row, group.layers);
    if (kept.empty() || kept.size() == scores.size()) continue;
    double least = std::numeric_limits<double>::infinity(), most = -least;
    const auto stays = [&](size_t e) {
      return std::find(kept.begin(), kept.end(), static_cast<int32_t>(e)) != kept.end();
    };
    for (size_t e = 0; e < scores.size(); ++e) {
      if (stays(e))
        least = std::min(least, scores[e]);
      else
        most = std::max(most, scores[e]);
    }
    if (least != most) continue;
    std::vector<int32_t> in, out;
    for (size_t e = 0; e < scores.size(); ++e) {
      if (scores[e] == least) (stays(e) ? in : out).push_back(static_cast<int32_t>(e));
    }
    lines.push_back(fmt::format(
        "{} {}: kept {} and dropped {} have the same score {:.6g}: the lower index decides",
        plural(group.layers.size(), "layer"), list_of(group.layers), list_of(in), list_of(out), least));
  }
  shorten(lines, "have ties of kept and dropped experts");
  return lines;
}

// Of criteria that do not score experts one by one: layers whose experts put out nothing, and, where errors
// of subsets decide, subsets whose errors are the same.
std::vector<std::string> ties_of_sets(const ExpertStatistics& statistics, const ExpertPlan& plan,
                                      bool errors_decide) {
  std::vector<std::string> lines;
  for (const PlanGroup& group : plan.groups) {
    if (group.kept == group.experts) continue;
    for (const int32_t number : group.layers) {
      const LayerStatistics& layer = layer_statistics(statistics, number);
      const std::vector<double>& norms = layer[ExpertSum::kNorm];
      if (std::all_of(norms.begin(), norms.end(), [](double norm) { return norm == 0; })) {
        lines.push_back(
            fmt::format("layer {}: no expert put out anything: nothing speaks for any of them", number));
        continue;
      }
      for (const SubsetErrors& errors : layer.subset_errors) {
        if (!errors_decide || errors.kept != group.kept || errors.error.empty() || group.layers.size() > 1)
          continue;
        const double least = *std::min_element(errors.error.begin(), errors.error.end());
        const auto same = std::count(errors.error.begin(), errors.error.end(), least);
        if (same > 1) {
          lines.push_back(
              fmt::format("layer {}: {} sets of {} experts have the same error {:.6g}: the first decides",
                          number, same, errors.kept, least));
        }
      }
    }
  }
  shorten(lines, "have no set of experts that is best");
  return lines;
}

}  // namespace

std::vector<std::string> choices_without_signal(const ExpertStatistics& statistics,
                                                const Criterion& criterion, const ExpertPlan& plan) {
  std::vector<std::string> lines;
  if (!criterion.row->calibrates()) return lines;
  const bool decides = std::any_of(plan.groups.begin(), plan.groups.end(),
                                   [](const PlanGroup& group) { return group.kept < group.experts; });
  if (!decides) return lines;
  if (statistics.tokens == 0) lines.push_back("the statistics hold no token: nothing speaks for any expert");
  if (criterion.row->scores != nullptr && !criterion.guard.enabled) {
    for (std::string& line : ties(statistics, criterion, plan)) lines.push_back(std::move(line));
  }
  if (criterion.row->scores == nullptr) {
    const bool errors_decide = criterion.row->name == "naee";
    for (std::string& line : ties_of_sets(statistics, plan, errors_decide)) lines.push_back(std::move(line));
  }
  for (std::string& line : never_routed(statistics)) lines.push_back(std::move(line));
  return lines;
}

void require_finite_statistics(const ExpertStatistics& statistics) {
  for (const LayerStatistics& layer : statistics.layers) {
    for (size_t sum = 0; sum < kExpertSums; ++sum) {
      const std::vector<double>& values = layer.sums[sum];
      const auto bad = std::find_if(values.begin(), values.end(), [](double v) { return !std::isfinite(v); });
      if (bad == values.end()) continue;
      throw Error(ExitCode::kData, fmt::format("layer {}, expert {}", layer.layer, bad - values.begin()),
                  fmt::format("its statistic {} is not a finite number (got {})", kExpertSumNames[sum], *bad),
                  "values inside the model exceed what floats hold: calibrate on other text, or look at the "
                  "expert's weights (eep inspect, eep verify)");
    }
  }
}

}  // namespace eep
