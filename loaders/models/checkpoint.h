// A checkpoint directory to RawModel: config.json, model.safetensors or its shards and index, per-expert and
// fused expert layouts, and eep's native exports (loaders/models/export.h). Every tensor of the architecture
// is found, and checked against the config, before any memory in proportion to the config is taken.
#pragma once

#include <string>

#include "engine/raw_model.h"

namespace eep {

// Throws Error with the tensor's name and the expected and found shape or dtype.
RawModel load_checkpoint(const std::string& directory);

}  // namespace eep
