// The experiment file that `eep init` begins with: every choice that matters, with the reason beside it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "engine/config.h"

namespace eep {

struct TemplateFacts {
  std::string model;                     // path, as it is written into the file
  std::string task;                      // name or path
  std::string task_name;                 // of the task file
  std::map<std::string, int64_t> items;  // of the splits train, dev and test that the task has
};

// Half of the experts, the paper's prune phase and Gauss-Newton merging where there are items enough for
// shards. load_experiment accepts it.
std::string experiment_template(const ModelConfig& config, const TemplateFacts& facts);

}  // namespace eep
