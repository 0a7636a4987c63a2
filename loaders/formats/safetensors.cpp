// The safetensors header, checked field by field, and the writer.
#include "loaders/formats/safetensors.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <unordered_map>

#include "kernels/common/expected.h"
#include "loaders/formats/json.h"

namespace eep {

namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kMaxRank = 64;

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ExitCode::kData, where, what);
}

int64_t dtype_bits(std::string_view dtype) {  // 0: unknown
  static constexpr std::pair<std::string_view, int64_t> kBits[] = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
  for (const auto& [name, bits] : kBits) {
    if (name == dtype) return bits;
  }
  return 0;
}

uint64_t read_u64(const uint8_t* data) {
  uint64_t value = 0;
  for (int byte = 7; byte >= 0; --byte) value = value << 8 | data[byte];
  return value;
}

// A count in the header: JSON integers only, 4.0 is none.
uint64_t count_of(const Json& value, const std::string& where, const char* what) {
  if (!value.is_number_unsigned()) fail(where, std::string(what) + " is not a whole number >= 0");
  return value.get<uint64_t>();
}

SafetensorsEntry parse_entry(const std::string& name, const Json& fields, size_t data_begin, size_t data_size,
                             const std::string& where) {
  if (!fields.is_object()) fail(where, "malformed entry (expected an object)");
  for (const auto& [key, value] : fields.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      fail(where, "unknown field \"" + printable(key) + "\"");
  }
  if (fields.size() != 3) fail(where, "incomplete entry (expected dtype, shape and data_offsets)");

  SafetensorsEntry entry;
  entry.name = name;
  if (!fields["dtype"].is_string()) fail(where, "dtype is not a string");
  entry.dtype = fields["dtype"].get<std::string>();
  const int64_t bits = dtype_bits(entry.dtype);
  if (bits == 0) fail(where, "unknown dtype " + printable(entry.dtype));

  const Json& shape = fields["shape"];
  if (!shape.is_array() || shape.size() > kMaxRank) fail(where, "shape is not a list of at most 64 extents");
  uint64_t elements = 1;
  for (const Json& extent : shape) {
    const uint64_t count = count_of(extent, where, "an extent of the shape");
    if (count > static_cast<uint64_t>(INT64_MAX)) fail(where, "shape too large");
    entry.shape.push_back(static_cast<int64_t>(count));
  }
  for (int64_t extent : entry.shape) {
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(extent), &elements))
      fail(where, "shape too large");
  }
  uint64_t total_bits = 0;
  if (__builtin_mul_overflow(elements, static_cast<uint64_t>(bits), &total_bits))
    fail(where, "shape too large");
  if (total_bits % 8 != 0) fail(where, "elements of " + entry.dtype + " do not fill whole bytes");

  const Json& offsets = fields["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) fail(where, "data_offsets is not a list of two");
  const uint64_t begin = count_of(offsets[0], where, "a data offset");
  const uint64_t end = count_of(offsets[1], where, "a data offset");
  if (begin > end || end > data_size) {
    fail(where, "data offsets outside the file" +
                    expected_got("at most " + std::to_string(data_size),
                                 std::to_string(begin) + " to " + std::to_string(end)));
  }
  if (end - begin != total_bits / 8) {
    fail(where, "size does not match shape and dtype" +
                    expected_got(std::to_string(total_bits / 8) + " bytes", end - begin));
  }
  entry.offset = data_begin + static_cast<size_t>(begin);
  entry.bytes = static_cast<size_t>(end - begin);
  return entry;
}

}  // namespace

SafetensorsHeader parse_safetensors(const uint8_t* data, size_t size, const std::string& where) {
  if (size < kLengthBytes) {
    fail(where, "truncated" + expected_got("at least 8 bytes", size));
  }
  const ForeignFile foreign =
      foreign_file({reinterpret_cast<const char*>(data), std::min<size_t>(size, size_t{100})});
  if (!foreign.what.empty()) throw Error(ExitCode::kData, where, foreign.what, foreign.hint);
  const uint64_t length = read_u64(data);
  if (length > kMaxHeader) {
    fail(where, "header too long" + expected_got("at most 100000000 bytes", length));
  }
  if (length > size - kLengthBytes) {
    fail(where, "truncated header" + expected_got(std::to_string(length) + " bytes", size - kLengthBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(data) + kLengthBytes,
                              static_cast<size_t>(length));
  if (text.empty() || text.front() != '{')
    fail(where, "not a safetensors file (header does not start with '{')");
  const Json json = parse_json(text, where + " (header)");
  if (!json.is_object()) fail(where, "header is not an object");

  SafetensorsHeader header;
  const size_t data_begin = kLengthBytes + static_cast<size_t>(length);
  for (const auto& [name, fields] : json.items()) {
    if (name != "__metadata__") {
      header.entries.push_back(
          parse_entry(name, fields, data_begin, size - data_begin, where + ": tensor " + printable(name)));
      continue;
    }
    if (!fields.is_object()) fail(where, "__metadata__ is not an object");
    for (const auto& [key, value] : fields.items()) {
      if (!value.is_string()) fail(where, "__metadata__ value of \"" + printable(key) + "\" is not a string");
      header.metadata.emplace_back(key, value.get<std::string>());
    }
  }

  std::stable_sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  size_t next = data_begin;
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.offset != next) {
      fail(where + ": tensor " + printable(entry.name),
           "data does not follow the previous tensor's" +
               expected_got("offset " + std::to_string(next - data_begin), entry.offset - data_begin));
    }
    next += entry.bytes;
  }
  if (next != size) {
    fail(where,
         "file does not end with the last tensor" + expected_got(std::to_string(next) + " bytes", size));
  }
  return header;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file(path) {
  header = parse_safetensors(file.data(), file.size(), path);
  for (size_t i = 0; i < header.entries.size(); ++i) index_.emplace(header.entries[i].name, i);
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header.entries[found->second];
}

const char* dtype_text(const SafetensorsSpec& spec) {
  return spec.code == Code::kNone ? dtype_name(spec.dtype) : code_name(spec.code);
}

size_t element_bytes(const SafetensorsSpec& spec) {
  return spec.code == Code::kNone ? dtype_size(spec.dtype) : 1;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<SafetensorsSpec>& specs,
                                     const SafetensorsMetadata& metadata)
    : file_(path) {
  Json json = Json::object();
  auto& members = json.get_ref<Json::object_t&>();  // emplace_back: no search for each of thousands of names
  if (!metadata.empty()) {
    Json entries = Json::object();
    for (const auto& [key, value] : metadata) entries[key] = value;
    members.emplace_back("__metadata__", std::move(entries));
  }
  for (const SafetensorsSpec& spec : specs) {
    size_t bytes = element_bytes(spec);
    for (int64_t extent : spec.shape) bytes *= static_cast<size_t>(extent);
    members.emplace_back(spec.name, Json{{"dtype", dtype_text(spec)},
                                         {"shape", spec.shape},
                                         {"data_offsets", {missing_, missing_ + bytes}}});
    missing_ += bytes;
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data starts aligned
  uint8_t length[kLengthBytes];
  for (size_t byte = 0; byte < kLengthBytes; ++byte)
    length[byte] = static_cast<uint8_t>(text.size() >> (8 * byte));
  file_.write(length, kLengthBytes);
  file_.write(text.data(), text.size());
}

void SafetensorsWriter::append(const void* data, size_t bytes) {
  assert(bytes <= missing_);
  file_.write(data, bytes);
  missing_ -= bytes;
}

void SafetensorsWriter::commit() {
  assert(missing_ == 0);
  file_.commit();
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const SafetensorsMetadata& metadata) {
  std::vector<SafetensorsSpec> specs;
  for (const NamedTensor& tensor : tensors) specs.push_back(tensor.spec);
  SafetensorsWriter writer(path, specs, metadata);
  for (const NamedTensor& tensor : tensors) {
    size_t bytes = element_bytes(tensor.spec);
    for (int64_t extent : tensor.spec.shape) bytes *= static_cast<size_t>(extent);
    writer.append(tensor.data, bytes);
  }
  writer.commit();
}

}  // namespace eep
