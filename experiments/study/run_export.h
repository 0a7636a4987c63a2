// The model of a run: its final plan as a checkpoint.
#pragma once

#include <string>

#include "experiments/study/run_hooks.h"
#include "experiments/study/task_context.h"
#include "loaders/models/plan_io.h"

namespace eep {

// Writes `directory` unless it is there (an export appears whole or not at all): in Hugging Face layout, or
// in eep's own where a stock loader cannot compute the plan or could not tell gate rows apart, which is said.
// Then looks at what it wrote (loaders/models/verify.h), at how many of the task's tokens it routes as the
// plan does, and at whether what it writes loops: export_check.json beside the directory holds the checks.
void export_run_model(TaskContext& task, const ExpertPlan& plan, const Json& provenance,
                      const std::string& directory, const RunHooks& hooks);

// Whether the run directory has the model and its checks, or shall have none.
bool is_exported(const Experiment& experiment, const std::string& run_directory);

}  // namespace eep
