// How long a candidate takes, for --dry-run.
#pragma once

#include "experiments/study/task_context.h"

namespace eep {

// Experts kept in a layer; where counts vary, the mean that the total allows, rounded up.
int64_t usual_experts(const Experiment& experiment, const ModelConfig& config);

// Seconds of one candidate of the prune or the merge phase on the train split: a few are timed together.
double measure_candidate(ModelContext& model, TaskContext& task, const Experiment& experiment, bool merge);

}  // namespace eep
