// Strict YAML: a document as a tree of values with positions, read with types. Refused, always with
// file:line:column: duplicate keys, anchors and aliases (so no alias bomb and no recursion), tags, merge
// keys, several documents, text that is too large, too deep or has too many values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/common/error.h"

namespace eep {

struct YamlValue {
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  std::string scalar;
  bool quoted = false;
  std::string where;                                       // file:line:column
  std::vector<YamlValue> items;                            // kSequence
  std::vector<std::pair<std::string, YamlValue>> entries;  // kMap, in the file's order
  std::vector<std::string> key_where;                      // [entries] position of each key

  // Out of line: clang 14 cannot generate them for a pair that holds the type itself.
  YamlValue();
  YamlValue(const YamlValue& other);
  YamlValue(YamlValue&& other) noexcept;
  YamlValue& operator=(const YamlValue& other);
  YamlValue& operator=(YamlValue&& other) noexcept;
  ~YamlValue();

  const YamlValue* find(std::string_view key) const;
};

// The root of a document; an empty one is an empty map. Errors have the given code (experiment files:
// kConfig, task files: kData).
YamlValue parse_yaml(const std::string& text, const std::string& where, ExitCode code = ExitCode::kConfig);

// Sets the value at a dotted path, or behind the given keys, creating maps on the way: --set a.b=c, sweeps.
// `value` is YAML text in flow style.
void set_yaml(YamlValue* root, const std::string& path, const std::string& value, const std::string& where);
void set_yaml(YamlValue* root, const std::vector<std::string>& keys, const std::string& value,
              const std::string& where);

// A value and its path (search.merge.sigma). Getters throw with the position, the path, what is allowed and
// what was found.
class YamlView {
 public:
  YamlView(const YamlValue& value, std::string path, ExitCode code)
      : value_(&value), path_(std::move(path)), code_(code) {}

  const YamlValue& value() const { return *value_; }
  const std::string& path() const { return path_; }
  bool is_map() const { return value_->kind == YamlValue::Kind::kMap; }
  bool is_sequence() const { return value_->kind == YamlValue::Kind::kSequence; }
  bool is_scalar() const { return value_->kind == YamlValue::Kind::kScalar; }

  bool has(std::string_view key) const;  // there, and not null
  YamlView at(std::string_view key) const;
  std::vector<YamlView> sequence() const;
  YamlView as_map() const;
  // Throws, with the nearest known key, if a key is none of these.
  void only_keys(const std::vector<std::string>& keys) const;

  std::string as_string() const;
  bool as_bool() const;                                     // true or false
  int64_t as_int(int64_t smallest, int64_t largest) const;  // decimal, no leading zeros
  double as_number(double smallest, double largest) const;  // finite
  std::string as_choice(const std::vector<std::string>& allowed) const;

  [[noreturn]] void fail(const std::string& what) const;
  [[noreturn]] void fail_expected(const std::string& expected) const;

 private:
  const YamlValue* value_;
  std::string path_;
  ExitCode code_;
};

// The nearest of the candidates by edit distance, or "" if none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// A scalar as YAML text that reads back as the same string.
std::string yaml_string(std::string_view text);

}  // namespace eep
