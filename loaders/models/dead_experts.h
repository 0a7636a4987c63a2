// What a plan keeps of a source that is dead or undecided there already: an export has it too, which is said.
#pragma once

#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"

namespace eep {

// Lines for people: rows of a plan all of whose experts put out zero, and kept gate rows that are equal in
// the source where not all kept experts are active. Empty for nearly every model.
std::vector<std::string> dead_in_source(const RawModel& model, const ExpertPlan& plan);

}  // namespace eep
