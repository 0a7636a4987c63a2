// Strict JSON. parse_json refuses duplicate keys, nesting deeper than kMaxJsonDepth, trailing text and
// invalid UTF-8 with Error(kData) at file:line:column. JsonView reads a document with the expected types; its
// errors carry the position and the path of the value (groups[0].layers).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/common/error.h"
#include "loaders/formats/file.h"

namespace eep {

using Json = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 64;

// kAsWritten: a number that its double does not spell as it stands in the file (0.10, 1e3, thirty digits)
// becomes the text that stands there.
enum class Numbers : uint8_t { kAsValues, kAsWritten };

// where: the file's name. first_line: the number of the text's first line in it (JSONL).
Json parse_json(std::string_view text, const std::string& where, int64_t first_line = 1,
                Numbers numbers = Numbers::kAsValues);

// One printable line of bounded length out of text that may hold anything, for messages.
std::string printable(std::string_view text);

// What stands at a path of JSON text (keys; an array's index as "[3]"), without the blanks between its signs:
// a number with all of its digits. The text is valid and has the path.
std::string written_json(std::string_view text, const std::vector<std::string>& path);

class JsonView;

// A parsed file that keeps its text, so that a wrong value can be shown where and as it stands.
class JsonDocument {
 public:
  JsonDocument(std::string text, std::string where);
  static JsonDocument read(const std::string& path, size_t max_bytes = kMaxTextFile);

  JsonView root() const;
  const std::string& where() const { return where_; }

 private:
  friend class JsonView;
  std::string text_, where_;
  Json value_;
};

// A value inside a document that outlives it.
class JsonView {
 public:
  JsonView(const JsonDocument& document, const Json& value, std::vector<std::string> path)
      : document_(&document), value_(&value), path_(std::move(path)) {}

  const Json& value() const { return *value_; }
  std::string path() const;     // "groups[0].layers", "top level" for the root
  std::string written() const;  // as it stands in the file, for messages

  bool is_null() const { return value_->is_null(); }
  bool is_string() const { return value_->is_string(); }
  bool is_number() const { return value_->is_number(); }
  bool is_array() const { return value_->is_array(); }
  bool is_object() const { return value_->is_object(); }

  bool has(std::string_view key) const;        // an object that has the key, null or not
  bool has_value(std::string_view key) const;  // the same, and it is not null
  JsonView at(std::string_view key) const;     // throws when missing
  JsonView at(size_t index) const;
  size_t size() const { return value_->size(); }

  // Throw when the type or the range is wrong. A number without a fraction is an integer (1e6, 4.0).
  const std::string& as_string() const;
  bool as_bool() const;
  int64_t as_int(int64_t smallest, int64_t largest) const;
  double as_number() const;  // finite
  JsonView as_object() const;
  JsonView as_array() const;

  // With a default for a missing or null key.
  std::string string_or(std::string_view key, const std::string& fallback) const;
  bool bool_or(std::string_view key, bool fallback) const;
  int64_t int_or(std::string_view key, int64_t fallback, int64_t smallest, int64_t largest) const;
  double number_or(std::string_view key, double fallback) const;

  // Throws if a key is none of these.
  void only_keys(std::initializer_list<std::string_view> keys) const;

  [[noreturn]] void fail(const std::string& what) const;               // "path: what" at the value's position
  [[noreturn]] void fail_expected(const std::string& expected) const;  // "(expected ..., got ...)"

 private:
  const JsonDocument* document_;
  const Json* value_;
  std::vector<std::string> path_;  // keys; an array's index as "[3]"
};

}  // namespace eep
