// safetensors: 8 bytes little-endian length N, N bytes of JSON header, then the tensors' bytes. Every field
// of a header is checked before a byte of data is touched: entries sorted by offset are contiguous and end
// exactly at the end of the file, and each has as many bytes as its shape and dtype say.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/common/float8.h"
#include "kernels/common/mapped_file.h"
#include "kernels/common/tensor.h"
#include "loaders/formats/file.h"

namespace eep {

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;           // as spelled: "BF16", "F8_E4M3", ...
  std::vector<int64_t> shape;  // may be empty (a scalar), extents may be 0
  size_t offset = 0;           // from the start of the file
  size_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by offset
  SafetensorsMetadata metadata;
};

// The header of a whole file in memory. Throws kData naming `where` and the tensor.
SafetensorsHeader parse_safetensors(const uint8_t* data, size_t size, const std::string& where);

struct SafetensorsFile {
  explicit SafetensorsFile(const std::string& path);  // maps it; throws kNoInput, kIo, kData

  MappedFile file;
  SafetensorsHeader header;

  const SafetensorsEntry* find(std::string_view name) const;  // null when absent
  const uint8_t* data(const SafetensorsEntry& entry) const { return file.data() + entry.offset; }

 private:
  std::map<std::string, size_t, std::less<>> index_;
};

struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::kF32;  // where it is not coded
  std::vector<int64_t> shape;
  Code code = Code::kNone;
};

const char* dtype_text(const SafetensorsSpec& spec);
size_t element_bytes(const SafetensorsSpec& spec);

// Writes a file whose tensors are known by name and shape first and whose bytes come afterwards, tensor by
// tensor in the order of `specs`, in parts of any size. Atomic: there is no file before commit().
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<SafetensorsSpec>& specs,
                    const SafetensorsMetadata& metadata = {{"format", "pt"}});
  void append(const void* data, size_t bytes);
  void commit();  // asserts that every byte was given

 private:
  AtomicFile file_;
  size_t missing_ = 0;
};

struct NamedTensor {
  SafetensorsSpec spec;
  const void* data = nullptr;
};

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const SafetensorsMetadata& metadata = {{"format", "pt"}});

}  // namespace eep
