// What a row of data says the right answer is, looked at without reading the rest of the row.
#pragma once

#include <string>

#include "loaders/formats/json.h"
#include "loaders/tasks/task.h"

namespace eep {

// Throws Error(kData) at `where` if the target of a row names no choice of the task. Rows of tasks whose
// target is text pass.
void check_target(const Task& task, const Json& row, const std::string& where);

}  // namespace eep
