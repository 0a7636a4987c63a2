// routing_changes: how many tokens an exported checkpoint sends to other experts than the plan does, because gate
// rows were mixed and rounded.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"
#include "experiments/program/options.h"

namespace eep {

struct RoutingChanges {
  int64_t tokens = 0;   // tokens times layers
  int64_t changed = 0;  // whose set of chosen experts differs
};

// Of the sequences, as the plan applied to `source` runs them: at each layer the plan's own input meets the plan's
// map and the exported gate, so a change is not counted again behind it. The plan works on logits.
RoutingChanges routing_changes(const RawModel& exported, const RawModel& source, const ExpertPlan& plan,
                               std::span<const std::vector<int32_t>> sequences, const CommonOptions& options);

}  // namespace eep
