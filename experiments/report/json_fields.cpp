#include "experiments/report/json_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr double kLargest = 1e15;  // what an axis can hold with all its arithmetic

}  // namespace

JsonFields::JsonFields(const Json& object, std::string where, std::string_view text)
    : object_(&object), where_(std::move(where)), text_(text) {
  check_object();
}

JsonFields JsonFields::child(const Json& object, const std::string& path, const std::string& step,
                             const std::string& index) const {
  JsonFields made = *this;
  made.object_ = &object;
  made.path_ = path_.empty() ? path : path_ + "." + path;
  made.steps_.push_back(step);
  if (!index.empty()) made.steps_.push_back(index);
  made.check_object();
  return made;
}

void JsonFields::check_object() const {
  if (object_->is_object()) return;
  throw Error(
      ExitCode::kData, where_,
      fmt::format("{}an object is needed (got {})", path_.empty() ? "" : path_ + ": ", object_->type_name()));
}

void JsonFields::fail(const std::string& key, const std::string& what) const {
  throw Error(ExitCode::kData, where_, fmt::format("{}{}: {}", path_.empty() ? "" : path_ + ".", key, what));
}

bool JsonFields::has(const char* key) const {
  const auto found = object_->find(key);
  return found != object_->end() && !found->is_null();
}

const Json& JsonFields::value(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end()) fail(key, "missing");
  return *found;
}

std::string JsonFields::text(const char* key) const {
  const Json& found = value(key);
  if (!found.is_string()) fail(key, fmt::format("expected a text, got {}", shown(key)));
  return found.get<std::string>();
}

std::string JsonFields::text_or(const char* key, const std::string& fallback) const {
  return has(key) ? text(key) : fallback;
}

std::string JsonFields::shown(const std::string& key) const { return written(object_->at(key), {key}); }

std::string JsonFields::written(const Json& value, const std::vector<std::string>& steps) const {
  if (text_.empty()) return printable(value.dump());
  std::vector<std::string> all = steps_;
  all.insert(all.end(), steps.begin(), steps.end());
  return printable(written_json(text_, all));
}

double JsonFields::checked(const Json& found, const std::string& key,
                           const std::vector<std::string>& steps) const {
  const double number = found.is_number() ? found.get<double>() : NAN;
  if (!(std::abs(number) <= kLargest))
    fail(key, fmt::format("expected a number of at most {:g}, got {}", kLargest, written(found, steps)));
  return number;
}

double JsonFields::number(const char* key) const { return checked(value(key), key, {key}); }

std::optional<double> JsonFields::number_if(const char* key) const {
  return has(key) ? std::optional(number(key)) : std::nullopt;
}

std::optional<std::pair<double, double>> JsonFields::pair_if(const char* key) const {
  if (!has(key)) return std::nullopt;
  const Json& ends = array(key);
  if (ends.size() != 2) fail(key, "expected two numbers, got " + shown(key));
  JsonFields list = *this;
  list.path_ = key;
  return std::pair(list.checked(ends[0], "low", {key, "[0]"}), list.checked(ends[1], "high", {key, "[1]"}));
}

int64_t JsonFields::integer(const char* key, int64_t least, int64_t most) const {
  const double number = this->number(key);
  if (number != std::floor(number) || number < static_cast<double>(least) ||
      number > static_cast<double>(most))
    fail(key, fmt::format("expected a whole number in {}..{}, got {}", least, most, shown(key)));
  return static_cast<int64_t>(number);
}

bool JsonFields::flag_or(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!value(key).is_boolean()) fail(key, "expected true or false, got " + shown(key));
  return value(key).get<bool>();
}

JsonFields JsonFields::object(const char* key) const { return child(value(key), key, key); }

const Json& JsonFields::array(const char* key) const {
  const Json& found = value(key);
  if (!found.is_array()) fail(key, "expected a list, got " + shown(key));
  return found;
}

JsonFields JsonFields::element(const char* key, size_t index) const {
  const std::string place = fmt::format("[{}]", index);
  return child(array(key)[index], key + place, key, place);
}

bool for_each_line(const std::string& file, bool cut_end, const std::function<void(const JsonFields&)>& use) {
  const std::string text = read_file(file);
  size_t begin = 0;
  for (int64_t number = 1; begin < text.size(); ++number) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos && cut_end) return true;
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const Json json = parse_json(line, file, number);
    use(JsonFields(json, fmt::format("{}:{}", file, number), line));
    if (end == std::string::npos) break;
    begin = end + 1;
  }
  return false;
}

std::vector<std::string> directory_names(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error), end;
  for (; !error && entry != end; entry.increment(error)) names.push_back(entry->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace eep
