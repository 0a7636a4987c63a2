#include "loaders/tasks/task.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/formats/yaml.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kKeys{"name",         "kind",   "data",   "prompt",   "choices",
                                     "choices_from", "target", "metric", "generate", "protocols"};

std::vector<std::string> strings(const YamlView& view) {
  std::vector<std::string> out;
  for (const YamlView& item : view.sequence()) out.push_back(item.as_string());
  return out;
}

// {field}, {{ and }}.
void check_placeholders(const YamlView& view) {
  const std::string prompt = view.as_string();
  for (size_t i = 0; i < prompt.size(); ++i) {
    const char c = prompt[i];
    if (c != '{' && c != '}') continue;
    if (i + 1 < prompt.size() && prompt[i + 1] == c) {
      ++i;
      continue;
    }
    if (c == '}') view.fail("} without { (write }} for a brace)");
    const size_t end = prompt.find_first_of("{}", i + 1);
    if (end == std::string::npos || prompt[end] == '{') view.fail("{ without } (write {{ for a brace)");
    if (end == i + 1) view.fail("{} names no field (write {{}} for braces)");
    i = end;
  }
}

// Reads the keys that are there; called for the file and then for the protocol's overrides.
void read_fields(const YamlView& view, Task* task) {
  if (view.has("kind")) {
    task->kind = view.at("kind").as_choice({"multiple_choice", "generate"}) == "generate"
                     ? TaskKind::kGenerate
                     : TaskKind::kMultipleChoice;
  }
  if (view.has("data")) {
    const YamlView data = view.at("data").as_map();
    for (const auto& [split, value] : data.value().entries) task->data[split] = data.at(split).as_string();
  }
  if (view.has("prompt")) {
    task->prompt = view.at("prompt").as_string();
    check_placeholders(view.at("prompt"));
  }
  if (view.has("choices")) task->choices = strings(view.at("choices"));
  if (view.has("choices_from")) task->choices_from = view.at("choices_from").as_string();
  if (view.has("target")) task->target = view.at("target").as_string();
  if (view.has("metric")) task->metric = *parse_metric(view.at("metric").as_choice(metric_names()));
  if (view.has("generate")) {
    const YamlView generate = view.at("generate").as_map();
    generate.only_keys({"max_new", "stop", "extract"});
    if (generate.has("max_new"))
      task->max_new = static_cast<int32_t>(generate.at("max_new").as_int(1, 100000));
    if (generate.has("stop")) {
      task->stop = strings(generate.at("stop"));
      for (const std::string& stop : task->stop) {
        if (stop.empty()) generate.at("stop").fail("a stop string is empty");
      }
    }
    if (generate.has("extract") && !parse_extract(generate.at("extract").as_string(), &task->extract)) {
      generate.at("extract").fail_expected(extract_rule_names());
    }
  }
}

std::string field_text(const Json& item, const std::string& field, const std::string& where) {
  const auto found = item.find(field);
  if (found == item.end()) throw Error(ExitCode::kData, where, "field " + printable(field) + " is missing");
  if (found->is_string()) return found->get<std::string>();
  if (found->is_boolean()) return found->get<bool>() ? "true" : "false";
  if (found->is_number()) return found->dump();
  throw Error(
      ExitCode::kData, where,
      fmt::format("field {}: wrong type (expected text or a number, got {})", field, found->type_name()));
}

// The prompt has passed check_placeholders.
std::string render(const std::string& prompt, const Json& item, const std::string& where) {
  std::string out;
  for (size_t i = 0; i < prompt.size(); ++i) {
    const char c = prompt[i];
    if ((c == '{' || c == '}') && i + 1 < prompt.size() && prompt[i + 1] == c) {
      out += c;
      ++i;
    } else if (c == '{') {
      const size_t end = prompt.find('}', i);
      out += field_text(item, prompt.substr(i + 1, end - i - 1), where);
      i = end;
    } else {
      out += c;
    }
  }
  return out;
}

int32_t label_of(const Json& target, const std::vector<std::string>& choices, const std::string& field,
                 const std::string& where) {
  const int64_t count = static_cast<int64_t>(choices.size());
  const auto refuse = [&](const std::string& got) {
    throw Error(ExitCode::kData, where,
                fmt::format("field {}: no such choice (expected 0..{} or the text of a choice, got {})",
                            field, count - 1, got));
  };
  if (target.is_boolean()) {
    if (count != 2) refuse(target.dump());
    return target.get<bool>() ? 1 : 0;
  }
  if (target.is_number_integer()) {
    const int64_t index = target.get<int64_t>();
    if (index < 0 || index >= count) refuse(target.dump());
    return static_cast<int32_t>(index);
  }
  if (!target.is_string()) refuse(target.dump());
  const std::string text = target.get<std::string>();
  for (int64_t i = 0; i < count; ++i) {
    if (choices[static_cast<size_t>(i)] == text || strip(choices[static_cast<size_t>(i)]) == strip(text)) {
      return static_cast<int32_t>(i);
    }
  }
  if (count == 2 && (text == "true" || text == "false")) return text == "true" ? 1 : 0;
  if (!text.empty() && text.size() < 6 && text.find_first_not_of("0123456789") == std::string::npos &&
      std::stol(text) < count) {
    return static_cast<int32_t>(std::stol(text));
  }
  refuse("\"" + printable(text) + "\"");
  return -1;
}

Item make_item(const Task& task, const Json& row, const std::string& where) {
  if (!row.is_object()) throw Error(ExitCode::kData, where, "not an object");
  Item item;
  item.where = where;
  item.prompt = render(task.prompt, row, where);
  const auto target = row.find(task.target);
  if (target == row.end()) throw Error(ExitCode::kData, where, "field " + task.target + " is missing");
  if (task.kind == TaskKind::kGenerate) {
    if (target->is_array()) {
      for (const Json& reference : *target) {
        if (!reference.is_string() && !reference.is_number())
          throw Error(ExitCode::kData, where,
                      "field " + task.target + ": an answer is neither text nor a number");
        item.references.push_back(reference.is_string() ? reference.get<std::string>() : reference.dump());
      }
    } else if (!task.choices.empty() && (target->is_boolean() || target->is_number_integer())) {
      item.references.push_back(
          task.choices[static_cast<size_t>(label_of(*target, task.choices, task.target, where))]);
    } else {
      item.references.push_back(field_text(row, task.target, where));
    }
    if (item.references.empty())
      throw Error(ExitCode::kData, where, "field " + task.target + ": no accepted answer");
    return item;
  }
  item.choices = task.choices;
  if (!task.choices_from.empty()) {
    const auto list = row.find(task.choices_from);
    if (list == row.end()) throw Error(ExitCode::kData, where, "field " + task.choices_from + " is missing");
    if (!list->is_array()) throw Error(ExitCode::kData, where, "field " + task.choices_from + ": not a list");
    for (const Json& choice : *list) {
      if (!choice.is_string())
        throw Error(ExitCode::kData, where, "field " + task.choices_from + ": a choice is not text");
      item.choices.push_back(choice.get<std::string>());
    }
  }
  if (item.choices.size() < 2) {
    throw Error(ExitCode::kData, where,
                fmt::format("too few choices (expected at least 2, got {})", item.choices.size()));
  }
  for (const std::string& choice : item.choices) {
    if (choice.empty()) throw Error(ExitCode::kData, where, "a choice is empty");
  }
  item.label = label_of(*target, item.choices, task.target, where);
  return item;
}

std::string data_path(const Task& task, const std::string& written) {
  const fs::path given(written);
  if (given.is_absolute()) return written;
  const fs::path beside = fs::path(task.directory) / given;
  if (file_exists(beside.string())) return beside.lexically_normal().string();
  if (const char* data = std::getenv("EEP_DATA"); data != nullptr) {
    const fs::path elsewhere = fs::path(data) / given;
    if (file_exists(elsewhere.string())) return elsewhere.lexically_normal().string();
  }
  throw Error(ExitCode::kNoInput, beside.lexically_normal().string(),
              "no such data file (task " + task.file + ")",
              "set EEP_DATA to the directory that holds " + written);
}

}  // namespace

Task parse_task(const std::string& text, const std::string& path, const std::string& protocol) {
  const YamlValue root = parse_yaml(text, path, ExitCode::kData);
  const YamlView view(root, "", ExitCode::kData);
  view.only_keys(kKeys);
  Task task;
  task.file = path;
  task.directory = fs::path(path).parent_path().string();
  task.protocol = protocol;
  task.name = view.at("name").as_string();
  for (const char* key : {"kind", "data", "prompt", "target", "metric"}) view.at(key);
  read_fields(view, &task);
  bool defined = protocol == "harness";
  if (view.has("protocols")) {
    const YamlView protocols = view.at("protocols").as_map();
    protocols.only_keys({"harness", "eep"});
    for (const auto& [name, overrides] : protocols.value().entries) {
      const YamlView here = protocols.at(name).as_map();
      here.only_keys({"kind", "prompt", "choices", "choices_from", "target", "metric", "generate", "data"});
      Task other = task;  // every protocol's overrides are checked
      Task& overridden = name == protocol ? task : other;
      if (here.has("choices")) overridden.choices_from.clear();
      if (here.has("choices_from")) overridden.choices.clear();
      read_fields(here, &overridden);
      defined = defined || name == protocol;
    }
  }
  if (!defined) {
    throw Error(ExitCode::kConfig, path,
                fmt::format("task {} does not say how it is asked under protocol {} (expected {})", task.name,
                            protocol, "protocols." + protocol));
  }
  if (task.data.empty()) view.at("data").fail("no splits");
  if (task.kind == TaskKind::kMultipleChoice) {
    if (!is_choice_metric(task.metric))
      view.at("metric").fail("a multiple_choice task is scored by acc or acc_norm");
    if (task.choices.empty() == task.choices_from.empty())
      view.at("kind").fail("exactly one of choices and choices_from is needed");
  } else if (is_choice_metric(task.metric)) {
    view.at("metric").fail("acc and acc_norm are for multiple_choice tasks");
  }
  return task;
}

Task load_task(const std::string& path, const std::string& protocol) {
  return parse_task(read_file(path), path, protocol);
}

std::string data_file(const Task& task, const std::string& split) {
  const auto found = task.data.find(split);
  if (found == task.data.end()) {
    std::string known;
    for (const auto& [name, path] : task.data) known += (known.empty() ? "" : ", ") + name;
    throw Error(ExitCode::kUsage, "split " + split,
                "task " + task.name + " has no such split (expected one of " + known + ")");
  }
  return data_path(task, found->second);
}

std::vector<Item> load_items(const Task& task, const std::string& split, int64_t limit) {
  const std::string path = data_file(task, split);
  const std::string text = read_file(path);
  std::vector<Item> items;
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size() && (limit == 0 || static_cast<int64_t>(items.size()) < limit);) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    ++line;
    const std::string_view row(text.data() + begin, end - begin);
    begin = end + 1;
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    items.push_back(make_item(task, parse_json(row, path, line), fmt::format("{}:{}", path, line)));
  }
  if (items.empty()) throw Error(ExitCode::kData, path, "no items (expected at least 1)");
  return items;
}

std::string items_hash(const std::vector<Item>& items) {
  std::string bytes;
  const auto add = [&](const std::string& text) {
    bytes += std::to_string(text.size()) + ":";
    bytes += text;
  };
  for (const Item& item : items) {
    add(item.prompt);
    for (const std::string& choice : item.choices) add(choice);
    for (const std::string& reference : item.references) add(reference);
    bytes += std::to_string(item.label) + ";";
  }
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("xxh3:{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace eep
