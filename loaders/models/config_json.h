// config.json to ModelConfig: the families of families.h, in the spellings of transformers
// v4 and v5. What the engine cannot compute is refused by name, impossible values by path.
#pragma once

#include <string>

#include "engine/config.h"
#include "loaders/formats/json.h"

namespace eep {

// The name of config.json in a native export (loaders/models/export.h).
inline constexpr const char* kNativeConfig = "eep_config.json";

ModelConfig parse_config(const JsonDocument& document);

// Layers for multi-token prediction, numbered after the others (mtp.h): 0 where the config has none.
int64_t read_mtp_layers(const std::string& directory);

// config.json of a checkpoint, with eos_token_id and bos_token_id of generation_config.json where that
// exists. dtype is the one config.json states (bf16 when silent); load_checkpoint sets what the tensors have.
ModelConfig read_config(const std::string& directory);

}  // namespace eep
