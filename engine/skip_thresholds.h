// Thresholds of NAEE's dynamic skipping (Lu et al., 2402.14800, section 4): in each layer the median over
// calibration tokens of the second expert's routing weight over the first's. A token whose ratio is below it
// goes to its first expert alone.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "engine/weights.h"

namespace eep {

struct SkipThresholds {
  std::vector<float> of_layer;  // [model layers], 0 in dense ones; of two middle values the lower
  double active = 0;            // experts a token and layer with them, on the same tokens
};

// One pass of the plan, which has two active experts and skips none yet, over the prompts; four bytes a token
// and sparse layer are held. Throws Error(kConfig) for another number of active experts or kept ones below two.
SkipThresholds skip_thresholds(const Weights& weights, const Ops& ops, const Device& device,
                               size_t memory_budget, const ExpertPlan& plan, const Prompts& prompts);

// The plan with them.
ExpertPlan skipping_plan(ExpertPlan plan, const SkipThresholds& thresholds);

}  // namespace eep
