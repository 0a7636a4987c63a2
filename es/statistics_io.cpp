// SCORES.json.
#include "es/statistics_io.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "engine/expert_plan.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kMaxLayers = 4096;

// Reads on to the number at a path, as Value writes paths, for how it stands in the text.
class NumberFinder : public nlohmann::json_sax<json> {
 public:
  explicit NumberFinder(const std::string& path) : path_(path) {}
  const std::string& found() const { return found_; }  // empty: no number that a double holds

  bool null() override { return next(); }
  bool boolean(bool) override { return next(); }
  bool number_integer(int64_t) override { return next(); }
  bool number_unsigned(uint64_t) override { return next(); }
  bool number_float(double, const std::string& written) override {
    if (at() == path_) found_ = written;
    return found_.empty() && next();
  }
  bool string(std::string&) override { return next(); }
  bool binary(json::binary_t&) override { return next(); }
  bool start_object(size_t) override { return open(-1); }
  bool key(std::string& name) override {
    open_.back().key = name;
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(0); }
  bool end_array() override { return close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  struct Frame {
    std::string path, key;
    int64_t index;  // of an array's element that comes next; -1: an object
  };

  std::string at() const {
    if (open_.empty()) return {};
    const Frame& frame = open_.back();
    if (frame.index >= 0) return frame.path + "[" + std::to_string(frame.index) + "]";
    return frame.path.empty() ? frame.key : frame.path + "." + frame.key;
  }
  bool next() {
    if (!open_.empty() && open_.back().index >= 0) ++open_.back().index;
    return true;
  }
  bool open(int64_t index) {
    open_.push_back({at(), {}, index});
    return true;
  }
  bool close() {
    open_.pop_back();
    return next();
  }

  const std::string& path_;
  std::string found_;
  std::vector<Frame> open_;
};

struct Source {
  std::string_view text;
  const std::string& where;
};

// A value of the file and where it stands.
class Value {
 public:
  Value(const json& value, const Source& source, std::string path)
      : value_(value), source_(source), path_(std::move(path)) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::kData, source_.where, (path_.empty() ? "file" : path_) + ": " + what);
  }

  // Every key of an object must be among `keys` or `optional`, and all of `keys` there.
  void keys(const std::vector<std::string>& keys, const std::vector<std::string>& optional = {}) const {
    if (!value_.is_object()) fail("wrong type" + expected_got("object", value_.type_name()));
    for (const auto& item : value_.items()) {
      const auto among = [&](const std::vector<std::string>& known) {
        return std::find(known.begin(), known.end(), item.key()) != known.end();
      };
      if (!among(keys) && !among(optional)) fail("unknown key " + item.key());
    }
    for (const std::string& key : keys) {
      if (!value_.contains(key)) fail("key " + key + " is missing");
    }
  }

  bool has(const std::string& key) const { return value_.contains(key); }
  Value operator[](const std::string& key) const {
    return Value(value_.at(key), source_, path_.empty() ? key : path_ + "." + key);
  }
  Value operator[](size_t index) const {
    return Value(value_.at(index), source_, path_ + "[" + std::to_string(index) + "]");
  }

  std::string text() const {
    if (!value_.is_string()) fail("wrong type" + expected_got("string", value_.type_name()));
    return value_.get<std::string>();
  }
  bool boolean() const {
    if (!value_.is_boolean()) fail("wrong type" + expected_got("true or false", value_.type_name()));
    return value_.get<bool>();
  }
  int64_t integer(int64_t low, int64_t high) const {
    if (!value_.is_number_integer()) {
      fail("wrong type" + expected_got("integer", value_.type_name()));
    }
    const bool huge = value_.is_number_unsigned() &&
                      value_.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    const int64_t number = huge ? std::numeric_limits<int64_t>::max() : value_.get<int64_t>();
    if (huge || number < low || number > high) {
      fail("number out of range" +
           expected_got(std::to_string(low) + ".." + std::to_string(high), written()));
    }
    return number;
  }
  double number(double least = 0.0) const {
    if (!value_.is_number()) fail("wrong type" + expected_got("number", value_.type_name()));
    const auto number = value_.get<double>();
    if (!std::isfinite(number) || number < least) {
      fail("number out of range" + expected_got("0 or more", written()));
    }
    return number;
  }
  size_t size() const {
    if (!value_.is_array()) fail("wrong type" + expected_got("array", value_.type_name()));
    return value_.size();
  }
  void expect_size(size_t wanted) const {
    if (size() != wanted) {
      fail("wrong length" + expected_got(wanted, size()));
    }
  }
  std::vector<double> numbers(size_t wanted, double least = 0.0) const {
    expect_size(wanted);
    std::vector<double> numbers;
    for (size_t i = 0; i < wanted; ++i) numbers.push_back((*this)[i].number(least));
    return numbers;
  }

 private:
  // A number as it stands in the file.
  std::string written() const {
    if (!value_.is_number_float()) return value_.dump();
    NumberFinder finder(path_);
    json::sax_parse(source_.text, &finder);
    return finder.found();
  }

  const json& value_;
  const Source& source_;
  std::string path_;
};

// The library keeps the last of equal keys; here they are an error.
json parse_json(std::string_view text, const std::string& where) {
  std::vector<std::set<std::string>> open;
  const auto watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second) {
      throw Error(ExitCode::kData, where, "duplicate key " + parsed.get<std::string>());
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::parse_error& error) {
    const size_t end = std::min(text.size(), error.byte == 0 ? size_t{0} : error.byte - 1);
    const std::string_view before = text.substr(0, end);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    throw Error(ExitCode::kData, where + ":" + std::to_string(line) + ":" + std::to_string(end - start + 1),
                "not JSON (expected an object of format eep-statistics)");
  } catch (const json::out_of_range&) {
    throw Error(ExitCode::kData, where, "a number that no double can hold");
  }
}

SubsetErrors read_subset_errors(const Value& value, int32_t experts) {
  value.keys({"kept", "exhaustive", "subsets", "error"}, {"norm"});
  SubsetErrors errors;
  errors.kept = static_cast<int32_t>(value["kept"].integer(1, experts));
  errors.exhaustive = value["exhaustive"].boolean();
  const Value subsets = value["subsets"];
  std::set<std::vector<int32_t>> seen;
  for (size_t i = 0; i < subsets.size(); ++i) {
    const Value each = subsets[i];
    each.expect_size(static_cast<size_t>(errors.kept));
    std::vector<int32_t> subset;
    for (size_t j = 0; j < each.size(); ++j) {
      const int32_t low = j == 0 ? 0 : subset.back() + 1;  // ascending, so no expert twice
      subset.push_back(static_cast<int32_t>(each[j].integer(low, experts - 1)));
    }
    if (!seen.insert(subset).second) each.fail("the same subset twice");
    errors.subsets.push_back(std::move(subset));
  }
  errors.error = value["error"].numbers(errors.subsets.size());
  if (value.has("norm")) errors.norm = value["norm"].number();
  return errors;
}

LayerStatistics read_layer(const Value& value, int32_t experts) {
  std::vector<std::string> keys = {"layer", "subset_errors"};
  const auto routed = kExpertSumNames.begin() + kRoutedSums;
  keys.insert(keys.end(), kExpertSumNames.begin(), routed);
  std::vector<std::string> optional(routed, kExpertSumNames.end());
  optional.insert(optional.end(), kExpertMatrixNames.begin(), kExpertMatrixNames.end());
  value.keys(keys, optional);
  LayerStatistics layer;
  layer.layer = static_cast<int32_t>(value["layer"].integer(0, kMaxLayers - 1));
  const auto count = static_cast<size_t>(experts);
  for (size_t sum = 0; sum < kExpertSums; ++sum) {
    const std::string name(kExpertSumNames[sum]);
    if (value.has(name)) layer.sums[sum] = value[name].numbers(count);
  }
  for (size_t matrix = 0; matrix < kExpertMatrices; ++matrix) {
    const std::string name(kExpertMatrixNames[matrix]);
    if (value.has(name))
      layer.matrices[matrix] = value[name].numbers(count * count, std::numeric_limits<double>::lowest());
  }
  const Value errors = value["subset_errors"];
  for (size_t i = 0; i < errors.size(); ++i) {
    layer.subset_errors.push_back(read_subset_errors(errors[i], experts));
  }
  return layer;
}

}  // namespace

std::string statistics_json(const StatisticsFile& file) {
  const ExpertStatistics& statistics = file.statistics;
  ordered_json root = {{"format", "eep-statistics"}, {"version", 1},
                       {"model", file.model},        {"data", file.data},
                       {"task", file.task},          {"experts", statistics.experts},
                       {"top_k", statistics.top_k},  {"tokens", statistics.tokens}};
  if (file.rows_used > 0) root["rows"] = {{"used", file.rows_used}, {"skipped", file.rows_skipped}};
  root["layers"] = ordered_json::array();
  for (const LayerStatistics& layer : statistics.layers) {
    ordered_json item = {{"layer", layer.layer}};
    for (size_t sum = 0; sum < kExpertSums; ++sum) {
      if (sum < kRoutedSums || !layer.sums[sum].empty())
        item[std::string(kExpertSumNames[sum])] = layer.sums[sum];
    }
    for (size_t matrix = 0; matrix < kExpertMatrices; ++matrix) {
      if (!layer.matrices[matrix].empty())
        item[std::string(kExpertMatrixNames[matrix])] = layer.matrices[matrix];
    }
    item["subset_errors"] = ordered_json::array();
    for (const SubsetErrors& errors : layer.subset_errors) {
      item["subset_errors"].push_back({{"kept", errors.kept},
                                       {"exhaustive", errors.exhaustive},
                                       {"subsets", errors.subsets},
                                       {"error", errors.error}});
      if (errors.norm > 0) item["subset_errors"].back()["norm"] = errors.norm;
    }
    root["layers"].push_back(std::move(item));
  }
  return root.dump(-1, ' ', true, ordered_json::error_handler_t::replace) + "\n";
}

StatisticsFile parse_statistics(std::string_view text, const std::string& where) {
  const json parsed = parse_json(text, where);
  const Source source{text, where};
  const Value root(parsed, source, "");
  root.keys({"format", "version", "model", "data", "task", "experts", "top_k", "tokens", "layers"}, {"rows"});
  if (root["format"].text() != "eep-statistics") {
    root["format"].fail("unknown format" + expected_got("eep-statistics", root["format"].text()));
  }
  root["version"].integer(1, 1);
  StatisticsFile file;
  file.model = root["model"].text();
  file.data = root["data"].text();
  file.task = root["task"].text();
  if (root.has("rows")) {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    root["rows"].keys({"used", "skipped"});
    file.rows_used = root["rows"]["used"].integer(0, kMost);
    file.rows_skipped = root["rows"]["skipped"].integer(0, kMost);
  }
  ExpertStatistics& statistics = file.statistics;
  statistics.experts = static_cast<int32_t>(root["experts"].integer(1, kMaxExperts));
  statistics.top_k = static_cast<int32_t>(root["top_k"].integer(1, statistics.experts));
  statistics.tokens = root["tokens"].integer(0, std::numeric_limits<int64_t>::max());
  const Value layers = root["layers"];
  if (layers.size() == 0) layers.fail("no layer");
  for (size_t i = 0; i < layers.size(); ++i) {
    statistics.layers.push_back(read_layer(layers[i], statistics.experts));
    if (i > 0 && statistics.layers[i].layer <= statistics.layers[i - 1].layer) {
      layers[i].fail("layers are not ascending");
    }
  }
  return file;
}

}  // namespace eep
