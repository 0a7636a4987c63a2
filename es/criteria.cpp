// One-shot criteria.
#include "es/criteria.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "es/criteria_pairs.h"
#include "es/random.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

std::vector<double> per_token(const std::vector<double>& sum, const std::vector<double>& count) {
  std::vector<double> mean(sum.size(), 0.0);
  for (size_t i = 0; i < sum.size(); ++i) {
    if (count[i] > 0.0) mean[i] = sum[i] / count[i];
  }
  return mean;
}

// Adds values / sum(values); a layer whose values are all 0 says nothing.
void add_normalised(const std::vector<double>& values, std::vector<double>& total) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  if (!(sum > 0.0)) return;
  for (size_t i = 0; i < values.size(); ++i) total[i] += values[i] / sum;
}

// Linear between the order statistics, as numpy's default.
double percentile(std::vector<double> values, double percent) {
  std::sort(values.begin(), values.end());
  const double place = percent / 100.0 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(std::floor(place));
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
}

// [experts]: the experts of these layers that the guard keeps.
std::vector<bool> guarded_experts(const ExpertStatistics& statistics, const SuperExpertGuard& guard,
                                  const std::vector<int32_t>& layers) {
  std::vector<bool> guarded(static_cast<size_t>(statistics.experts), false);
  if (!guard.enabled) return guarded;
  std::vector<double> all;
  for (const LayerStatistics& layer : statistics.layers) {
    all.insert(all.end(), layer[ExpertSum::kMaxActivation].begin(), layer[ExpertSum::kMaxActivation].end());
  }
  if (all.empty()) return guarded;
  const double threshold =
      std::max(percentile(all, guard.percentile), guard.share * *std::max_element(all.begin(), all.end()));
  const double looked_after = guard.first_layers * static_cast<double>(statistics.layers.size());
  for (size_t index = 0; index < statistics.layers.size(); ++index) {
    const LayerStatistics& layer = statistics.layers[index];
    if (static_cast<double>(index) >= looked_after) break;
    if (std::find(layers.begin(), layers.end(), layer.layer) == layers.end()) continue;
    for (size_t expert = 0; expert < guarded.size(); ++expert) {
      if (layer[ExpertSum::kMaxActivation][expert] > threshold) guarded[expert] = true;
    }
  }
  return guarded;
}

std::vector<int32_t> top(const std::vector<double>& scores, const std::vector<bool>& guarded, int32_t kept) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const auto i = static_cast<size_t>(a);
    const auto j = static_cast<size_t>(b);
    if (guarded[i] != guarded[j]) return static_cast<bool>(guarded[i]);
    return scores[i] > scores[j];
  });
  order.resize(static_cast<size_t>(kept));
  std::sort(order.begin(), order.end());
  return order;
}

const SubsetErrors& errors_of(const LayerStatistics& layer, int32_t kept) {
  for (const SubsetErrors& errors : layer.subset_errors) {
    if (errors.kept == kept && !errors.subsets.empty()) return errors;
  }
  throw Error(ExitCode::kData, "statistics",
              "no subset errors for " + std::to_string(kept) + " kept experts in layer " +
                  std::to_string(layer.layer));
}

// The subset of least error, summed over the layers after dividing each layer's errors by their sum; among
// those that every layer has.
std::vector<int32_t> select_subset(const ExpertStatistics& statistics, int32_t kept,
                                   const std::vector<int32_t>& layers) {
  struct Total {
    double error = 0.0;
    size_t layers = 0;
  };
  std::map<std::vector<int32_t>, Total> totals;
  for (const int32_t layer : layers) {
    const SubsetErrors& errors = errors_of(layer_statistics(statistics, layer), kept);
    std::vector<double> share(errors.error.size(), 0.0);
    // One layer alone is compared as it is: dividing could make unequal errors equal.
    if (layers.size() == 1)
      share = errors.error;
    else
      add_normalised(errors.error, share);
    for (size_t i = 0; i < errors.subsets.size(); ++i) {
      Total& total = totals[errors.subsets[i]];
      total.error += share[i];
      ++total.layers;
    }
  }
  const std::vector<int32_t>* best = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [subset, total] : totals) {
    if (total.layers == layers.size() && total.error < least) {
      least = total.error;
      best = &subset;
    }
  }
  if (best == nullptr) {
    throw Error(ExitCode::kData, "statistics", "the layers of a group have no sampled subset in common");
  }
  return *best;
}

// A sum as it is, and a sum a routed token.
template <ExpertSum sum>
std::vector<double> total(const LayerStatistics& layer) {
  return layer[sum];
}
template <ExpertSum sum>
std::vector<double> mean(const LayerStatistics& layer) {
  return per_token(layer[sum], layer[ExpertSum::kCount]);
}

// Expected squared distance from the mean, over all tokens: count times the norm of the standard deviations.
std::vector<double> deviation(const LayerStatistics& layer) {
  const std::vector<double>& count = layer[ExpertSum::kCount];
  const std::vector<double>& sum = layer[ExpertSum::kOutputSumNorm];
  std::vector<double> scores(sum.size(), 0.0);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!(count[i] > 0.0)) continue;
    const double mean = sum[i] / count[i], squares = layer[ExpertSum::kSquaredNorm][i] / count[i];
    scores[i] = count[i] * std::sqrt(std::max(squares - mean * mean, 0.0));
  }
  return scores;
}

// A weight's size is uneven where the root of the mean square exceeds the mean; the number of weights is the
// same for all experts.
std::vector<double> unevenness(const LayerStatistics& layer) {
  const std::vector<double>& magnitude = layer[ExpertSum::kWeightMagnitude];
  std::vector<double> scores(magnitude.size(), 0.0);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (magnitude[i] > 0.0) scores[i] = std::sqrt(layer[ExpertSum::kWeightSquares][i]) / magnitude[i];
  }
  return scores;
}

std::vector<int32_t> select_random(const ExpertStatistics& statistics, const Criterion& criterion,
                                   int32_t kept, const std::vector<int32_t>& /*layers*/, uint32_t group) {
  return random_experts(statistics.experts, kept, criterion.seed, criterion.draw, group);
}

std::vector<int32_t> select_naee(const ExpertStatistics& statistics, const Criterion& /*criterion*/,
                                 int32_t kept, const std::vector<int32_t>& layers, uint32_t /*group*/) {
  return select_subset(statistics, kept, layers);
}

constexpr CriterionRow scored(std::string_view name, std::string_view formula,
                              std::vector<double> (*scores)(const LayerStatistics&),
                              CriterionNeeds needs = CriterionNeeds::kRouted) {
  return {name, formula, scores, nullptr, needs, nullptr};
}
constexpr CriterionRow merging(std::string_view name, std::string_view formula,
                               PlanGroup (*merge)(const ExpertStatistics&, const Criterion&, int32_t,
                                                  const std::vector<int32_t>&),
                               CriterionNeeds needs) {
  return {name, formula, nullptr, nullptr, needs, merge};
}

constexpr std::array kCriteria{
    CriterionRow{"random", "uniform draw of a subset", nullptr, select_random, CriterionNeeds::kNothing},
    scored("frequency", "number of tokens in X_j", total<ExpertSum::kCount>),
    scored("soft_activation", "sum of g_j over X_j", total<ExpertSum::kGate>),
    scored("soft_activation_selected", "sum of p_j over X_j", total<ExpertSum::kSelectedProbability>),
    scored("soft_activation_all", "sum of p_j over all tokens", total<ExpertSum::kProbability>),
    scored("ean", "sum of the norm of f_j over X_j", total<ExpertSum::kNorm>),
    scored("wean", "sum of g_j times the norm of f_j over X_j", total<ExpertSum::kGateNorm>),
    scored("man", "mean of the norm of f_j over X_j", mean<ExpertSum::kNorm>),
    scored("msan", "mean of the squared norm of f_j over X_j", mean<ExpertSum::kSquaredNorm>),
    scored("reap", "mean of g_j times the norm of f_j over X_j", mean<ExpertSum::kGateNorm>),
    scored("reap_probability", "mean of p_j times the norm of f_j over X_j",
           mean<ExpertSum::kProbabilityNorm>),
    scored("reap_l2", "mean of g_j times the squared norm of f_j over X_j",
           mean<ExpertSum::kGateSquaredNorm>),
    scored("max_activation", "largest component of f_j over X_j", total<ExpertSum::kMaxActivation>),
    CriterionRow{"naee", "the kept subset whose block output is nearest to the full one", nullptr,
                 select_naee},
    scored("easyep", "sum of (1 - cos(h, h + y)) times g_j times the norm of f_j over X_j",
           total<ExpertSum::kChangeNorm>, CriterionNeeds::kDetails),
    scored("shape", "sum over X_j of j's share of the norm of y, by g_i times the norm of f_i",
           total<ExpertSum::kCredit>, CriterionNeeds::kDetails),
    scored("mone", "size of X_j times the norm of the standard deviation of f_j over X_j", deviation,
           CriterionNeeds::kDetails),
    scored("aimer", "root mean square of the expert's weights by their mean size (no text)", unevenness,
           CriterionNeeds::kDetails),
    CriterionRow{"hope", "the removed set whose outputs together are smallest, by sums over pairs", nullptr,
                 select_by_pairs, CriterionNeeds::kDetails},
    merging("msmoe", "experts join the used one of most similar gate logits; means weighted by use",
            merge_by_logits, CriterionNeeds::kDetails),
    merging("hcsmoe", "average linkage of mean outputs; means weighted by use", merge_by_outputs,
            CriterionNeeds::kEveryExpert),
    merging("ream", "experts join the salient one of most similar outputs and logits; means by saliency",
            merge_by_saliency, CriterionNeeds::kEveryExpert),
};

// A count out of range.
void check_kept(const ExpertStatistics& statistics, int32_t kept) {
  if (kept < 1 || kept > statistics.experts) {
    throw Error(
        ExitCode::kConfig, "plan.experts",
        "impossible number of kept experts" + expected_got("1.." + std::to_string(statistics.experts), kept));
  }
}

}  // namespace

const LayerStatistics& layer_statistics(const ExpertStatistics& statistics, int32_t layer) {
  for (const LayerStatistics& each : statistics.layers) {
    if (each.layer == layer) return each;
  }
  throw Error(ExitCode::kData, "statistics", "layer " + std::to_string(layer) + " is missing");
}

std::vector<int32_t> highest(const std::vector<double>& scores, int32_t kept) {
  return top(scores, std::vector<bool>(scores.size()), kept);
}

std::vector<double> group_scores(const ExpertStatistics& statistics, const CriterionRow& row,
                                 const std::vector<int32_t>& layers) {
  const auto experts = static_cast<size_t>(statistics.experts);
  std::vector<double> total(experts, 0.0);
  for (const int32_t layer : layers) {
    const std::vector<double> scores = row.scores(layer_statistics(statistics, layer));
    require_statistics(row.name, layer, scores.size(), experts);
    if (layers.size() == 1)
      total = scores;
    else
      add_normalised(scores, total);
  }
  return total;
}

std::span<const CriterionRow> criteria() { return kCriteria; }

std::vector<std::string_view> criterion_names() {
  std::vector<std::string_view> names;
  for (const CriterionRow& row : criteria()) names.push_back(row.name);
  return names;
}

const CriterionRow& find_criterion(std::string_view name) {
  for (const CriterionRow& row : criteria()) {
    if (row.name == name) return row;
  }
  throw Error(
      ExitCode::kConfig, "method",
      "unknown criterion" + expected_got(fmt::format("{}", fmt::join(criterion_names(), ", ")), name));
}

CriterionNeeds needed_statistics(std::span<const std::string> names) {
  CriterionNeeds most = CriterionNeeds::kNothing;
  for (const CriterionRow& row : criteria()) {
    if (std::find(names.begin(), names.end(), row.name) != names.end()) most = std::max(most, row.needs);
  }
  return most;
}

std::vector<int32_t> random_experts(int32_t experts, int32_t kept, uint64_t seed, uint32_t draw,
                                    uint32_t group) {
  return random_subset({seed, Purpose::kBaselineRandom, /*generation=*/0, draw, group, 0, 0}, experts, kept);
}

ExpertPlan random_plan(int32_t experts, const std::vector<int32_t>& kept, uint64_t seed, uint32_t draw,
                       const std::vector<std::vector<int32_t>>& groups, int32_t top_k,
                       RouterSpace router_space) {
  ExpertPlan plan;
  plan.top_k = top_k;
  plan.router_space = router_space;
  for (size_t group = 0; group < groups.size(); ++group) {
    plan.groups.push_back(one_hot_group(
        groups[group], random_experts(experts, kept.at(group), seed, draw, static_cast<uint32_t>(group)),
        experts));
  }
  return plan;
}

std::vector<int32_t> select_experts(const ExpertStatistics& statistics, const Criterion& criterion,
                                    int32_t kept, const std::vector<int32_t>& layers, uint32_t group) {
  check_kept(statistics, kept);
  const auto experts = static_cast<size_t>(statistics.experts);
  const CriterionRow& row = *criterion.row;
  if (!row.calibrates()) return row.select(statistics, criterion, kept, layers, group);
  // Nothing to choose, and no layer needs subset errors for it.
  if (kept == statistics.experts) return top(std::vector<double>(experts), std::vector<bool>(experts), kept);
  if (row.select != nullptr) return row.select(statistics, criterion, kept, layers, group);
  return top(group_scores(statistics, row, layers), guarded_experts(statistics, criterion.guard, layers),
             kept);
}

ExpertPlan select_plan(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                       const std::vector<std::vector<int32_t>>& groups, int32_t top_k,
                       RouterSpace router_space) {
  return select_plan(statistics, criterion, std::vector<int32_t>(groups.size(), kept), groups, top_k,
                     router_space);
}

ExpertPlan select_plan(const ExpertStatistics& statistics, const Criterion& criterion,
                       const std::vector<int32_t>& kept, const std::vector<std::vector<int32_t>>& groups,
                       int32_t top_k, RouterSpace router_space) {
  ExpertPlan plan;
  plan.top_k = top_k;
  plan.router_space = router_space;
  for (size_t group = 0; group < groups.size(); ++group) {
    if (criterion.row->merge != nullptr && kept[group] < statistics.experts) {
      check_kept(statistics, kept[group]);
      plan.groups.push_back(criterion.row->merge(statistics, criterion, kept[group], groups[group]));
      continue;
    }
    const std::vector<int32_t> experts =
        criterion.row->merge != nullptr
            ? highest(std::vector<double>(static_cast<size_t>(statistics.experts)), kept[group])
            : select_experts(statistics, criterion, kept[group], groups[group], static_cast<uint32_t>(group));
    plan.groups.push_back(one_hot_group(groups[group], experts, statistics.experts));
  }
  return plan;
}

}  // namespace eep
