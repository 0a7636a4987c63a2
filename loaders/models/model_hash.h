// "xxh3:<32 hex digits>": XXH3-128 over the dimensions of the config and every tensor in a fixed order, row
// by row. The same for any sharding, expert layout and spelling of the config; not cryptographic.
#pragma once

#include <functional>
#include <string>

#include "engine/raw_model.h"

namespace eep {

// progress: told of the bytes of tensors that are done, of all; may be empty.
std::string model_hash(const RawModel& model,
                       const std::function<void(size_t done, size_t total)>& progress = {});

}  // namespace eep
