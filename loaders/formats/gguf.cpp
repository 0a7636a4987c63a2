#include "loaders/formats/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"

namespace eep {

namespace {

constexpr size_t kMaxKey = 65535, kMaxName = 64;
constexpr uint32_t kMaxDimensions = 4;
constexpr int kMaxDepth = 4;  // of arrays in arrays
constexpr uint64_t kMaxArray = uint64_t{1} << 24;

class Reader {
 public:
  Reader(const uint8_t* data, size_t size, const std::string& where, GgufTensors allowed)
      : data_(data), size_(size), allowed_(allowed) {
    file_.where = where;
  }

  GgufFile read() {
    if (size_ < 4 || std::memcmp(data_, "GGUF", 4) != 0) {
      const ForeignFile foreign =
          foreign_file({reinterpret_cast<const char*>(data_), std::min<size_t>(size_, size_t{100})});
      if (foreign.what.empty()) fail("not a GGUF file");
      throw Error(ExitCode::kData, file_.where, "not a GGUF file but " + foreign.what, foreign.hint);
    }
    at_ = 4;
    const uint64_t version = number(4);
    if (version != 2 && version != 3) {
      fail("GGUF version not supported" + expected_got("2 or 3", version));
    }
    file_.version = static_cast<uint32_t>(version);
    const uint64_t tensors = number(8), values = number(8);
    // Each takes at least its two lengths.
    if (tensors > size_ / 16 || values > size_ / 12) fail("counts that the file has no room for");
    file_.entries = data_ + at_;
    file_.entries_at = at_;
    for (uint64_t i = 0; i < values; ++i) read_entry();
    file_.entries_bytes = at_ - file_.entries_at;
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < tensors; ++i) offsets.push_back(read_tensor());
    place_tensors(offsets);
    return std::move(file_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ExitCode::kData, file_.where, what); }

  const uint8_t* take(uint64_t bytes) {
    if (bytes > size_ - at_) fail(fmt::format("ends early, at byte {}", at_));
    return data_ + std::exchange(at_, at_ + static_cast<size_t>(bytes));
  }
  uint64_t number(size_t bytes) {
    const uint8_t* p = take(bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= uint64_t{p[i]} << (8 * i);
    return value;
  }
  std::string string(size_t longest) {
    const uint64_t bytes = number(8);
    if (bytes > longest) fail(fmt::format("text of {} bytes at byte {}", bytes, at_));
    const uint8_t* p = take(bytes);
    return std::string(reinterpret_cast<const char*>(p), static_cast<size_t>(bytes));
  }

  static int64_t sign_extended(uint64_t value, size_t bytes) {
    const int shift = static_cast<int>(64 - 8 * bytes);
    return static_cast<int64_t>(value << shift) >> shift;
  }

  void read_scalar(uint64_t type, GgufValue& value, const std::string& key) {
    switch (type) {
      case 0:
      case 2:
      case 4:
      case 10: {  // u8, u16, u32, u64
        const uint64_t stored = number(type == 0 ? 1 : type == 2 ? 2 : type == 4 ? 4 : 8);
        if (stored > INT64_MAX) fail(printable(key) + ": number too large");
        return value.integers.push_back(static_cast<int64_t>(stored));
      }
      case 1:
      case 3:
      case 5:
      case 11: {  // i8, i16, i32, i64
        const size_t bytes = type == 1 ? 1 : type == 3 ? 2 : type == 5 ? 4 : 8;
        return value.integers.push_back(sign_extended(number(bytes), bytes));
      }
      case 6:
        value.kind = GgufValue::Kind::kReal;
        return value.reals.push_back(std::bit_cast<float>(static_cast<uint32_t>(number(4))));
      case 12:
        value.kind = GgufValue::Kind::kReal;
        return value.reals.push_back(std::bit_cast<double>(number(8)));
      case 7: {
        const uint64_t stored = number(1);
        if (stored > 1) fail(printable(key) + ": a truth value that is neither 0 nor 1");
        value.kind = GgufValue::Kind::kBool;
        return value.integers.push_back(static_cast<int64_t>(stored));
      }
      case 8:
        value.kind = GgufValue::Kind::kText;
        return value.texts.push_back(string(size_));
      default:
        fail(fmt::format("{}: metadata type not known ({})", printable(key), type));
    }
  }

  // Arrays of arrays are legal and nothing here asks for one: they are walked over and left empty.
  void read_array(uint64_t type, GgufValue& value, const std::string& key, int depth) {
    const uint64_t count = number(8);
    if (count > size_ - at_ || count > kMaxArray)
      fail(printable(key) + ": array that the file has no room for");
    if (type != 9) {
      for (uint64_t i = 0; i < count; ++i) read_scalar(type, value, key);
      return;
    }
    if (depth == kMaxDepth) fail(printable(key) + ": arrays nested too deeply");
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t inner = number(4);
      GgufValue dropped;
      read_array(inner, dropped, key, depth + 1);
    }
  }

  void read_entry() {
    const std::string key = string(kMaxKey);
    GgufValue value;
    uint64_t type = number(4);
    if (type == 9) {
      value.array = true;
      type = number(4);
      read_array(type, value, key, 1);
    } else {
      value.at = at_;
      read_scalar(type, value, key);
      value.bytes = at_ - value.at;
    }
    if (!file_.metadata.emplace(key, std::move(value)).second) fail(printable(key) + ": there twice");
  }

  uint64_t read_tensor() {
    GgufTensor tensor;
    tensor.name = string(kMaxName);
    const std::string shown = "tensor " + printable(tensor.name) + ": ";
    if (!names_.insert(tensor.name).second) fail(shown + "there twice");
    const uint64_t rank = number(4);
    if (rank < 1 || rank > kMaxDimensions) fail(shown + fmt::format("{} dimensions", rank));
    tensor.shape.resize(rank);
    uint64_t elements = 1;
    for (uint64_t axis = rank; axis-- > 0;) {
      const uint64_t extent = number(8);
      // At least 1.5 bits an element in every type: a larger product cannot lie in the file.
      if (extent == 0 || extent > size_ * 6 / elements)
        fail(shown + "dimensions that the file has no room for");
      elements *= extent;
      tensor.shape[axis] = static_cast<int64_t>(extent);
    }
    const uint64_t type = number(4);
    const auto stored = static_cast<uint32_t>(type);
    const bool any = allowed_ == GgufTensors::kStored;
    const std::optional<GgufType> known = any ? gguf_stored_type(stored) : gguf_type(stored);
    if (!known && any) fail(shown + gguf_type_name(stored) + " is of unknown size");
    if (!known) {
      fail(
          shown + "type not supported" +
          expected_got("F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K or Q6_K", gguf_type_name(stored)));
    }
    tensor.type = *known;
    const int64_t row = tensor.shape.back(), block = gguf_block_elements(*known);
    if (row % block != 0) fail(shown + fmt::format("rows of {} are no whole blocks of {}", row, block));
    tensor.bytes = elements / static_cast<uint64_t>(block) * gguf_block_bytes(*known);
    file_.tensors.push_back(std::move(tensor));
    return number(8);
  }

  void place_tensors(const std::vector<uint64_t>& offsets) {
    uint64_t alignment = 32;
    if (file_.find_value("general.alignment") != nullptr) {
      alignment = static_cast<uint64_t>(file_.integer("general.alignment", 1, 1 << 20));
    }
    file_.alignment = static_cast<size_t>(alignment);
    const uint64_t begin = (at_ + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < offsets.size(); ++i) {
      GgufTensor& tensor = file_.tensors[i];
      if (offsets[i] % alignment != 0 || begin > size_ || offsets[i] > size_ - begin ||
          tensor.bytes > size_ - begin - offsets[i]) {
        fail("tensor " + printable(tensor.name) + ": lies outside the file or off its alignment");
      }
      tensor.data = data_ + begin + offsets[i];
    }
  }

  const uint8_t* data_;
  size_t size_;
  GgufTensors allowed_;
  size_t at_ = 0;
  GgufFile file_;
  std::set<std::string> names_;
};

const GgufValue& wanted(const GgufFile& file, const std::string& key, GgufValue::Kind kind) {
  const GgufValue* value = file.find_value(key);
  if (value == nullptr) throw Error(ExitCode::kData, file.where, printable(key) + ": missing");
  if (value->array || value->kind != kind)
    throw Error(ExitCode::kData, file.where, printable(key) + ": wrong type");
  return *value;
}

}  // namespace

const GgufTensor* GgufFile::find(const std::string& name) const {
  for (const GgufTensor& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

const GgufValue* GgufFile::find_value(const std::string& key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

int64_t GgufFile::integer(const std::string& key, int64_t smallest, int64_t largest) const {
  const int64_t value = wanted(*this, key, GgufValue::Kind::kInteger).integers[0];
  if (value < smallest || value > largest) {
    throw Error(ExitCode::kData, where,
                fmt::format("{}: out of range", printable(key)) +
                    expected_got(fmt::format("{}..{}", smallest, largest), value));
  }
  return value;
}

double GgufFile::real(const std::string& key) const {
  const double value = wanted(*this, key, GgufValue::Kind::kReal).reals[0];
  if (!std::isfinite(value)) throw Error(ExitCode::kData, where, printable(key) + ": not finite");
  return value;
}

const std::string& GgufFile::text(const std::string& key) const {
  return wanted(*this, key, GgufValue::Kind::kText).texts[0];
}

GgufFile parse_gguf(const uint8_t* data, size_t size, const std::string& where, GgufTensors tensors) {
  return Reader(data, size, where, tensors).read();
}

}  // namespace eep
