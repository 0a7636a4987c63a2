// Thresholds of NAEE's dynamic skipping (Lu et al., 2402.14800, section 4): in each layer the median over
// calibration tokens of the second expert's routing weight over the first's. A token whose ratio is below it
// goes to its first expert alone.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "engine/weights.h"

namespace eep {

struct SkipThresholds {
  std::vector<float> of_layer;  // [model layers], 0 in dense ones; of two middle values the lower
  double active = 0;            // experts a token and layer with them, by the same weights
};

// Throws Error(kConfig) unless two experts are active and a layer keeps two at least.
void check_skippable(int64_t top_k, int64_t kept);
// The same of a plan, which skips none yet.
void check_skippable(const ExpertPlan& plan);

// [model layers] of each token the second expert's weight over the first's, in any order: what medians need.
// Empty in dense layers.
using WeightRatios = std::vector<std::vector<float>>;

// One pass of the plan over the prompts; four bytes a token and sparse layer are held. progress: called with
// the rows that are done; may be empty. Over several stages (stages.h), which call it with the same plan and
// prompts, the first one gets all layers.
WeightRatios weight_ratios(const Weights& weights, size_t memory_budget, const ExpertPlan& plan,
                           const Prompts& prompts, const std::function<void(int64_t)>& progress = {});
SkipThresholds thresholds_of(WeightRatios ratios);

// Both. Throws Error(kConfig) as check_skippable does.
SkipThresholds skip_thresholds(const Weights& weights, size_t memory_budget, const ExpertPlan& plan,
                               const Prompts& prompts, const std::function<void(int64_t)>& progress = {});

// The plan with them.
ExpertPlan skipping_plan(ExpertPlan plan, const SkipThresholds& thresholds);

}  // namespace eep
