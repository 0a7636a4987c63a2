// no_signal: where a choice of experts does not rest on the text.
#pragma once

#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/expert_statistics.h"
#include "es/criteria.h"

namespace eep {

// Lines for people, most telling first, at most some dozen: a text without tokens, experts that no token was
// routed to (by layer), and places where a kept expert and a dropped one have the same score, so that the
// lowest index decides. Empty where every choice has a reason.
std::vector<std::string> choices_without_signal(const ExpertStatistics& statistics,
                                                const Criterion& criterion, const ExpertPlan& plan);

// Throws Error(kData) with the layer, the expert and the sum that is no number: values inside the model were
// none, or exceeded what floats hold.
void require_finite_statistics(const ExpertStatistics& statistics);

}  // namespace eep
