// "xxh3:<32 hex digits>": XXH3-128 over the dimensions of the config and every tensor in a fixed order, row
// by row. The same for any sharding, expert layout and spelling of the config; not cryptographic.
#pragma once

#include <string>

#include "engine/raw_model.h"

namespace eep {

std::string model_hash(const RawModel& model);

}  // namespace eep
