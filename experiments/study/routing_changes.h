// routing_changes: how many tokens an exported checkpoint sends to other experts than the plan does, because
// gate rows were mixed and rounded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/ops.h"
#include "engine/raw_model.h"
#include "engine/weights.h"
#include "loaders/tasks/requests.h"

namespace eep {

struct RoutingChanges {
  int64_t tokens = 0;   // tokens times layers
  int64_t changed = 0;  // whose set of chosen experts differs

  // "0.53 % of 8192 tokens times layers choose other experts"
  std::string text() const;
};

// Of the sequences, as the plan applied to `source`, which `weights` are of, runs them: at each layer the
// plan's own input meets the plan's map and the exported gate, so a change is not counted again behind it.
// The plan works on logits. memory: bytes, 0: unlimited.
RoutingChanges routing_changes(const RawModel& exported, const RawModel& source, const ExpertPlan& plan,
                               std::span<const std::vector<int32_t>> sequences, const Weights& weights,
                               size_t memory);

// The prompts of a task's first items, of so many tokens in all, cut in the last one.
std::vector<std::vector<int32_t>> routed_sequences(const Requests& requests, int64_t tokens);

}  // namespace eep
