// Tensors to safetensors files one after the other: names and shapes first, bytes as they are made. One file
// or shards with an index, as Hugging Face writes them.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "loaders/formats/safetensors.h"

namespace eep {

using ByteSink = std::function<void(const void* data, size_t bytes)>;

// A tensor whose bytes are made in parts when they are wanted, so that no more than a part is in memory.
struct StreamedTensor {
  SafetensorsSpec spec;
  std::function<void(const ByteSink&)> produce;
};

size_t tensor_bytes(const SafetensorsSpec& spec);

using ByteProgress = std::function<void(size_t done, size_t total)>;

// The file of each tensor: <stem>.safetensors if all fit into `limit` bytes (0: no limit), else
// <stem>-00001-of-0000N.safetensors, filled in order, none above the limit unless one tensor is.
std::vector<std::string> shard_names(const std::vector<StreamedTensor>& tensors, const std::string& stem,
                                     size_t limit);

// Writes the files and, for several, <stem>.safetensors.index.json.
void write_shards(const std::string& directory, const std::string& stem,
                  const std::vector<StreamedTensor>& tensors, size_t limit, const ByteProgress& progress);

}  // namespace eep
