// Thresholds of a plan that skips experts (engine/skip_thresholds.h) over all ranks: each measures a part of
// the text, and medians do not ask where a ratio was measured.
#pragma once

#include <cstdint>
#include <functional>

#include "engine/skip_thresholds.h"
#include "experiments/ranks/ranks.h"
#include "experiments/study/model_context.h"
#include "experiments/study/rank_calibration.h"
#include "experiments/study/rank_messages.h"

namespace eep {

// Tags of the work: the first one for ranks that wait for any.
constexpr int kRatiosTag = kSumsTag + 1, kRatiosMadeTag = kRatiosTag + 1;

// The side of the rank that leads, of `count` ones, every `step`-th of which takes part with a model of its
// own. progress: called with the rows that are done, as far as this rank's show it. Throws Interrupted, and
// Error where another rank fails or has another model, or as skip_thresholds() does.
SkipThresholds divided_thresholds(Ranks& ranks, int count, int step, int32_t combination, ModelContext& model,
                                  size_t memory, const ExpertPlan& plan, const Prompts& prompts,
                                  const std::function<void(int64_t)>& progress);

// The other ranks' side, for rank `leader`.
void compute_ratios(const RatiosWork& work, int leader, ModelContext& model, size_t memory, Ranks& ranks);

}  // namespace eep
