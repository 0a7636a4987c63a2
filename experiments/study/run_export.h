// The model of a run: its final plan as a checkpoint.
#pragma once

#include <functional>
#include <string>

#include "experiments/study/model_context.h"
#include "loaders/models/plan_io.h"

namespace eep {

// Writes `directory` unless it is there (an export appears whole or not at all): in Hugging Face layout, or
// in eep's own where a stock loader cannot compute the plan, which is said.
// Then looks at what it wrote (loaders/models/verify.h): export_check.json beside the directory holds the checks.
void export_run_model(ModelContext& model, const ExpertPlan& plan, const Json& provenance,
                      const Device& device, const std::string& directory,
                      const std::function<void(const std::string&)>& say);

}  // namespace eep
