// A golden checkpoint cut down to its first layers and experts: an input then costs its own parsing, not that
// of a long list of tensors.
#pragma once

#include <fstream>

#include "loaders/formats/safetensors.h"
#include "tests/fuzz/fuzz.h"

namespace fuzz {

// The number in `name` after `part`, or -1.
inline int64_t number_after(const std::string& name, const std::string& part) {
  const size_t at = name.find(part);
  return at == name.npos ? -1 : std::atoll(name.c_str() + at + part.size());
}

// A directory with layers [0, layers) and experts [0, kept) of `checkpoint`, which has `experts` of them, and
// without a config.json. Tensors that hold all experts or their router's rows have them in the first axis.
struct SmallCheckpoint : Scratch {
  SmallCheckpoint(const std::string& checkpoint, int64_t layers, int64_t experts, int64_t kept) {
    const eep::SafetensorsFile golden(std::string(EEP_SOURCE_DIR) + "/tests/golden/" + checkpoint +
                                      "/model.safetensors");
    std::string header, bytes;
    for (const eep::SafetensorsEntry& entry : golden.header.entries) {
      const std::string& name = entry.name;
      if (number_after(name, ".layers.") >= layers || number_after(name, ".experts.") >= kept) continue;
      std::vector<int64_t> shape = entry.shape;
      size_t size = entry.bytes;
      const bool of_all = name.find(".gate.") != name.npos || name.find(".router.") != name.npos ||
                          name.find(".experts.") != name.npos;
      if (of_all && !shape.empty() && shape[0] == experts) {
        size = size / static_cast<size_t>(experts) * static_cast<size_t>(kept);
        shape[0] = kept;
      }
      std::string extents;
      for (const int64_t extent : shape) extents += (extents.empty() ? "" : ",") + std::to_string(extent);
      header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":")" + entry.dtype + R"(","shape":[)" +
                extents + R"(],"data_offsets":[)" + std::to_string(bytes.size()) + "," +
                std::to_string(bytes.size() + size) + "]}";
      bytes.append(reinterpret_cast<const char*>(golden.data(entry)), size);
    }
    header += "}";
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
    std::ofstream(this->file("model.safetensors"), std::ios::binary) << length << header << bytes;
  }
};

}  // namespace fuzz
