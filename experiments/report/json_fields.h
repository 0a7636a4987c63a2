// Typed fields of objects that a report reads: errors name the file, the line and the field.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

// An object at `where` (a file, or file:line). It and the text that it was read from outlive the fields; with
// the text a wrong number is shown as it is written there.
class JsonFields {
 public:
  JsonFields(const Json& object, std::string where, std::string_view text = {});

  bool has(const char* key) const;  // there, and not null
  std::string text(const char* key) const;
  std::string text_or(const char* key, const std::string& fallback) const;
  double number(const char* key) const;  // of a size that can be drawn
  std::optional<double> number_if(const char* key) const;
  std::optional<std::pair<double, double>> pair_if(const char* key) const;  // a list [low, high]
  int64_t integer(const char* key, int64_t least, int64_t most) const;
  bool flag_or(const char* key, bool fallback) const;
  JsonFields object(const char* key) const;
  const Json& array(const char* key) const;
  const Json& value(const char* key) const;  // throws where it is missing
  JsonFields element(const char* key, size_t index) const;
  std::string shown(const std::string& key) const;  // the value of a key that is there, for messages

  [[noreturn]] void fail(const std::string& key, const std::string& what) const;
  const Json& json() const { return *object_; }

 private:
  JsonFields child(const Json& object, const std::string& path, const std::string& step,
                   const std::string& index = {}) const;
  void check_object() const;
  // steps: from this object to the value.
  double checked(const Json& value, const std::string& key, const std::vector<std::string>& steps) const;
  std::string written(const Json& value, const std::vector<std::string>& steps) const;

  const Json* object_;
  std::string where_, path_;
  std::string_view text_;
  std::vector<std::string> steps_;  // from the text's root
};

// Every line of a JSONL file, parsed. cut_end: a last line without its line feed is left out (a file that is
// still being written) and reported by the result; else it is an error. Throws Error(kData).
bool for_each_line(const std::string& file, bool cut_end, const std::function<void(const JsonFields&)>& use);

// The names of files in a directory, in order; none where there is no directory.
std::vector<std::string> directory_names(const std::string& directory);

}  // namespace eep
