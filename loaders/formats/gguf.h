// GGUF files (version 2 and 3, little-endian): metadata and tensors, every count and offset checked against
// the file before anything is taken for it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "loaders/formats/gguf_blocks.h"

namespace eep {

// Scalars and arrays of the metadata. An array has its elements in the vector of their kind.
struct GgufValue {
  enum class Kind { kInteger, kReal, kBool, kText };
  Kind kind = Kind::kInteger;
  bool array = false;
  std::vector<int64_t> integers;  // booleans too
  std::vector<double> reals;
  std::vector<std::string> texts;
  size_t at = 0, bytes = 0;  // of a scalar: where in the file it lies
};

struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // as in PyTorch: the contiguous dimension last
  GgufType type = GgufType::kF32;
  const uint8_t* data = nullptr;
  size_t bytes = 0;
};

struct GgufFile {
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;
  std::string where;
  uint32_t version = 0;
  const uint8_t* entries = nullptr;  // the metadata as stored
  size_t entries_at = 0, entries_bytes = 0;
  size_t alignment = 32;  // of tensors

  const GgufTensor* find(const std::string& name) const;
  // Metadata of one type. Throws Error(kData) naming the key if it is missing or of another kind.
  int64_t integer(const std::string& key, int64_t smallest, int64_t largest) const;
  double real(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  const GgufValue* find_value(const std::string& key) const;
};

// What may be in a file: tensors that can be read, or any whose size is known.
enum class GgufTensors { kRead, kStored };

// Tensors point into `data`. Throws Error(kData).
GgufFile parse_gguf(const uint8_t* data, size_t size, const std::string& where,
                    GgufTensors tensors = GgufTensors::kRead);

}  // namespace eep
