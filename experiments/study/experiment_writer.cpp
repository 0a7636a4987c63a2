// Writing experiments: the resolved file and the JSON Schema, from the same fields as the reader.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "experiments/study/experiment_fields.h"

namespace eep {
namespace {

// Text inside a flow map.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

class Writer {
 public:
  std::string out;

  template <typename Body>
  void section(const char* name, const Body& body) {
    line(name, "");
    ++depth_;
    body();
    --depth_;
  }
  void text(const char* name, std::string& value, bool) { line(name, yaml_string(value)); }
  void word(const char* name, std::string& value, const std::vector<std::string>&) { line(name, value); }
  void choice(const char* name, uint8_t& value, std::span<const std::string_view> names) {
    line(name, std::string(names[value]));
  }
  template <typename Integer>
  void integer(const char* name, Integer& value, int64_t, int64_t) {
    line(name, std::to_string(value));
  }
  bool holds(std::string_view, bool used) const { return used; }
  void kept(const char* name, Experiment& e) {
    const Experiment::Counts& counts = e.counts;
    std::string most = counts.most > 0 ? fmt::format(", max: {}", counts.most) : "";
    line(name, counts.total > 0 ? fmt::format("{{total: {}, min: {}{}}}", counts.total, counts.least, most)
                                : std::to_string(e.experts));
  }
  void active(const char* name, Experiment& e) {
    line(name, e.top_k_least > 0 ? fmt::format("{{min: {}, max: {}}}", e.top_k_least, e.top_k)
                                 : std::to_string(e.top_k));
  }
  void number(const char* name, double& value, double, double) { line(name, fmt::format("{}", value)); }
  void flag(const char* name, bool& value) { line(name, value ? "true" : "false"); }
  void groups(const char* name, std::string& value) { line(name, value); }
  void words(const char* name, std::vector<std::string>& value, const std::vector<std::string>&) {
    line(name, fmt::format("[{}]", fmt::join(value, ", ")));
  }
  void tasks(const char* name, std::vector<TaskUse>& value) {
    line(name, "");
    for (const TaskUse& use : value) {
      out += fmt::format("  - {{name: {}, weight: {}", quoted(use.name), use.weight);
      if (use.guard >= 0) out += fmt::format(", guard: {}", use.guard);
      if (!use.test.empty()) out += ", test: " + quoted(use.test);
      out += "}\n";
    }
  }

 private:
  void line(const char* name, const std::string& value) {
    out += std::string(static_cast<size_t>(2 * depth_), ' ') + name + ":" +
           (value.empty() ? "" : " " + value) + "\n";
  }
  int depth_ = 0;
};

class SchemaWriter {
 public:
  using Json = nlohmann::ordered_json;

  SchemaWriter() { stack_.push_back(object()); }
  // A required field may be swept instead of set.
  Json root() {
    Json all = stack_.back();
    all["allOf"] = required_;
    return all;
  }

  template <typename Body>
  void section(const char* name, const Body& body) {
    stack_.push_back(object());
    section_ = name;
    body();
    Json done = std::move(stack_.back());
    stack_.pop_back();
    set(name, std::move(done));
  }
  void text(const char* name, std::string& value, bool required) {
    Json field{{"type", "string"}};
    if (!value.empty()) field["default"] = value;
    set(name, field);
    if (required) require(name);
  }
  void word(const char* name, std::string& value, const std::vector<std::string>& allowed) {
    set(name, {{"enum", allowed}, {"default", value}});
  }
  void choice(const char* name, uint8_t& value, std::span<const std::string_view> names) {
    set(name, {{"enum", names}, {"default", names[value]}});
  }
  bool holds(std::string_view, bool) const { return true; }
  template <typename Integer>
  void integer(const char* name, Integer& value, int64_t smallest, int64_t largest) {
    set(name, {{"type", "integer"}, {"minimum", smallest}, {"maximum", largest}, {"default", value}});
  }
  void kept(const char* name, Experiment& e) {
    const auto whole = [](int64_t largest) {
      return Json{{"type", "integer"}, {"minimum", 1}, {"maximum", largest}};
    };
    Json least = whole(kMostExperts);
    least["default"] = e.counts.least;
    Json counts = object();
    counts["required"] = {"total"};
    counts["properties"] = {{"total", whole(kMostKept)}, {"min", least}, {"max", whole(kMostExperts)}};
    set(name, {{"anyOf", Json::array({whole(kMostExperts), counts})}});
    require(name);
  }
  void active(const char* name, Experiment&) {
    Json bounds = object();
    bounds["required"] = {"min", "max"};
    for (const char* bound : {"min", "max"})
      bounds["properties"][bound] = {{"type", "integer"}, {"minimum", 1}, {"maximum", kMostActive}};
    const Json number{{"type", "integer"}, {"minimum", 0}, {"maximum", kMostActive}};
    set(name, {{"anyOf", Json::array({number, bounds})}, {"default", 0}});
  }
  void number(const char* name, double& value, double smallest, double largest) {
    set(name, {{"type", "number"}, {"minimum", smallest}, {"maximum", largest}, {"default", value}});
  }
  void flag(const char* name, bool& value) { set(name, {{"type", "boolean"}, {"default", value}}); }
  void groups(const char* name, std::string& value) {
    set(name, {{"anyOf", Json::array({{{"type", "integer"}, {"minimum", 1}}, {{"const", "per_layer"}}})},
               {"default", std::stoi(value)}});
  }
  void words(const char* name, std::vector<std::string>& value, const std::vector<std::string>& allowed) {
    set(name, {{"type", "array"}, {"items", {{"enum", allowed}}}, {"uniqueItems", true}, {"default", value}});
  }
  void tasks(const char* name, std::vector<TaskUse>&) {
    const auto number = [](double most) {
      return Json{{"type", "number"}, {"minimum", 0}, {"maximum", most}};
    };
    const Json text{{"type", "string"}};
    Json use = object();
    use["properties"] = {{"name", text}, {"weight", number(1e6)}, {"guard", number(100)}, {"test", text}};
    use["required"] = {"name"};
    set(name, {{"type", "array"}, {"items", use}});
    for (Json& one : required_) {  // the first of them names the task too
      if (one["anyOf"][0]["required"][0] == "task") one["anyOf"].push_back({{"required", {name}}});
    }
  }
  void set(const char* name, Json field) { stack_.back()["properties"][name] = std::move(field); }

 private:
  static Json object() {
    return {{"type", "object"}, {"additionalProperties", false}, {"properties", Json::object()}};
  }
  void require(const char* name) {
    const auto inside = [](const std::string& outer, const std::string& inner) {
      return Json{{"required", {outer}}, {"properties", {{outer, {{"required", {inner}}}}}}};
    };
    required_.push_back({{"anyOf", {inside(section_, name), inside("sweep", section_ + "." + name)}}});
  }
  std::vector<Json> stack_;
  std::string section_;  // the last one opened; required fields stand before any section of their own
  Json required_ = Json::array();
};

}  // namespace

std::string resolved_yaml(const Experiment& experiment) {
  Experiment resolved = experiment;
  resolved.model_path = resolve_path(resolved.model_path, resolved.directory);
  resolved.task = find_task(resolved.task, resolved.directory);
  for (TaskUse& use : resolved.tasks) use.name = find_task(use.name, resolved.directory);
  if (!resolved.start.empty()) resolved.start = resolve_path(resolved.start, resolved.directory);
  Writer writer;
  visit_experiment(writer, resolved);
  return writer.out;
}

std::string experiment_schema() {
  Experiment defaults;
  SchemaWriter writer;
  visit_experiment(writer, defaults);
  writer.set("paths_from", {{"type", "string"}});
  writer.set("sweep", {{"type", "object"}, {"additionalProperties", {{"type", "array"}, {"minItems", 1}}}});
  nlohmann::ordered_json schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                                {"title", "eep experiment"}};
  schema.update(writer.root());
  return schema.dump(2) + "\n";
}

}  // namespace eep
