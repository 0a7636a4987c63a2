// What eep doctor MODEL says of a checkpoint: whether it can be read, what it takes on this machine, what to
// run next.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "experiments/program/program.h"
#include "loaders/formats/json.h"

namespace eep {

struct ModelDiagnosis {
  std::vector<std::pair<std::string, std::string>> lines;  // name, text
  std::vector<std::string> next;                           // commands
  Json json;
};

// physical: bytes of this machine's memory. A checkpoint that cannot be read is a diagnosis (supported:
// false, and why); throws Error(kNoInput) where there is none.
ModelDiagnosis diagnose_model(const std::string& path, double physical, const CommandContext& context);

}  // namespace eep
