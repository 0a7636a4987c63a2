// weight_sums: what a model's weights alone tell about its experts (AIMER).
#pragma once

#include "engine/expert_statistics.h"
#include "engine/raw_model.h"

namespace eep {

// Fills kWeightMagnitude and kWeightSquares of every layer of the statistics: f64, rows in order, so the sums
// do not depend on threads. Reads every expert once.
void add_weight_sums(const RawModel& model, int threads, ExpertStatistics& statistics);

}  // namespace eep
