// What a checkpoint of any family asks for that the engine does not compute, by name: attention, router,
// experts, rotary embedding, weights. Read from config.json alone, so it also speaks of models that nothing
// else can open.
#pragma once

#include <string>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

struct ModelSupport {
  std::string model_type;  // "?" where config.json has none
  bool known = false;      // a family of families.h
  std::vector<std::string>
      missing;  // "router: sigmoid scores with a selection bias", ...; may be empty for a known one
};

// Of a parsed config.json. Never throws for what the file says.
ModelSupport model_support(const Json& config);

// Of a model directory. Throws Error(kNoInput / kIo / kData) where config.json cannot be read as JSON.
ModelSupport model_support(const std::string& directory);

}  // namespace eep
