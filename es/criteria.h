// criteria: one-shot pruning criteria as functions of calibration statistics. A criterion scores every expert
// of a layer; the highest scores stay, ties to the lowest index. Several layers with one selection: each
// layer's scores are divided by their sum, added over the layers, and the top K stay. Experts that were never
// routed to score 0. The table is that of criteria(): a criterion from known sums is one row of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/expert_statistics.h"

namespace eep {

struct Criterion;

// What a criterion reads besides the sums of kernels/expert_stats.h; each includes those before it.
enum class CriterionNeeds : uint8_t { kNothing, kRouted, kDetails, kEveryExpert };

// A row of the table of criteria.
struct CriterionRow {
  std::string_view name;
  std::string_view formula;  // X_j, g, p, f_j as in engine/expert_statistics.h
  // [experts] of one layer; null where experts are not scored one by one (random, naee, hope, merging).
  std::vector<double> (*scores)(const LayerStatistics& layer) = nullptr;
  // Then the choice itself, as select_experts; null otherwise.
  std::vector<int32_t> (*select)(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                                 const std::vector<int32_t>& layers, uint32_t group) = nullptr;
  CriterionNeeds needs = CriterionNeeds::kRouted;
  // Where experts are merged: the whole group of layers instead.
  PlanGroup (*merge)(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                     const std::vector<int32_t>& layers) = nullptr;

  bool calibrates() const { return needs != CriterionNeeds::kNothing; }  // reads statistics
};

std::span<const CriterionRow> criteria();
std::vector<std::string_view> criterion_names();
// Throws Error(kConfig) naming the known ones.
const CriterionRow& find_criterion(std::string_view name);
// The most that any of these criteria needs; names that are none (full) need nothing.
CriterionNeeds needed_statistics(std::span<const std::string> names);

// Experts whose largest activation stands out over the whole model always stay, as far as there is room:
// strictly above max(percentile over all experts of all layers, share of the largest), in the first layers.
struct SuperExpertGuard {
  bool enabled = false;
  double percentile = 99.5;
  double share = 0.1;
  double first_layers = 0.75;  // fraction of the sparse layers that the guard looks after
};

// The gate row of a merged expert: that of the expert that represents it, the mean of its members' (weights
// as for the experts), or the sum of its members' probabilities (router space probabilities alone).
enum class MergedRouter : uint8_t { kRepresentative, kAverage, kSum };

struct Criterion {
  const CriterionRow* row = nullptr;  // of criteria()
  uint64_t seed = 0;                  // random
  uint32_t draw = 0;                  // random: 0..29 for thirty draws
  SuperExpertGuard guard;
  MergedRouter merged_router = MergedRouter::kRepresentative;
};

// The statistics of a layer. Throws Error(kData) if there are none.
const LayerStatistics& layer_statistics(const ExpertStatistics& statistics, int32_t layer);

// [experts]: scores of one group of layers, of a criterion that has scores: of one layer as they are, of
// several divided by their sums and added. Throws Error(kData) if a sum is missing.
std::vector<double> group_scores(const ExpertStatistics& statistics, const CriterionRow& row,
                                 const std::vector<int32_t>& layers);
// The `kept` highest, ascending; ties to the lowest index.
std::vector<int32_t> highest(const std::vector<double>& scores, int32_t kept);

// The criterion random alone, which needs no statistics: a uniform subset a group; the one-hot plan.
std::vector<int32_t> random_experts(int32_t experts, int32_t kept, uint64_t seed, uint32_t draw,
                                    uint32_t group);
ExpertPlan random_plan(int32_t experts, const std::vector<int32_t>& kept /* [groups] */, uint64_t seed,
                       uint32_t draw, const std::vector<std::vector<int32_t>>& groups, int32_t top_k,
                       RouterSpace router_space);

// The `kept` experts of one group of layers, ascending; `group` is its number (random). Throws Error(kConfig)
// if kept is out of range, Error(kData) if the statistics lack a layer or, for naee, the subset errors.
std::vector<int32_t> select_experts(const ExpertStatistics& statistics, const Criterion& criterion,
                                    int32_t kept, const std::vector<int32_t>& layers, uint32_t group);

// The one-hot plan, or the merged one of a criterion that merges; groups: lists of sparse layers, as
// split_layers makes them.
ExpertPlan select_plan(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                       const std::vector<std::vector<int32_t>>& groups, int32_t top_k,
                       RouterSpace router_space);
// The same with a count a group.
ExpertPlan select_plan(const ExpertStatistics& statistics, const Criterion& criterion,
                       const std::vector<int32_t>& kept, const std::vector<std::vector<int32_t>>& groups,
                       int32_t top_k, RouterSpace router_space);

// `count` different subsets, ascending: first `always` (duplicates dropped), then uniform draws. All of them,
// in lexicographic order, where there are no more than `count`.
std::vector<std::vector<int32_t>> sample_subsets(int32_t experts, int32_t kept, int64_t count, uint64_t seed,
                                                 const std::vector<std::vector<int32_t>>& always = {});

}  // namespace eep
