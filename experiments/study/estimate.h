// How long a candidate takes, for --dry-run.
#pragma once

#include "experiments/study/task_context.h"

namespace eep {

// Seconds of one candidate of the prune or the merge phase on the train split: a few are timed together.
double measure_candidate(ModelContext& model, TaskContext& task, const Experiment& experiment, bool merge);

}  // namespace eep
