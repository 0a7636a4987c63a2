// run_config: config.resolved.yaml, the configuration that a run began with.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/experiment.h"

namespace eep {

// Of the whole run: the first combination's fields, and the sweep. Reads back as the same combinations.
std::string resolved_config(const std::vector<Combination>& combinations);

// Throws Error(kConfig), with the first line that differs, if the file holds anything else.
void check_same_config(const std::string& file, const std::string& wanted);

}  // namespace eep
