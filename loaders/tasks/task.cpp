#include "loaders/tasks/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/formats/yaml.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

// Keys that a protocol may override.
const std::vector<std::string> kFields{"kind",
                                       "data",
                                       "prompt",
                                       "prompts",
                                       "continuation",
                                       "choices",
                                       "choices_from",
                                       "target",
                                       "labels",
                                       "metric",
                                       "generate",
                                       "ignore",
                                       "description",
                                       "num_fewshot",
                                       "fewshot_split",
                                       "fewshot_sampler",
                                       "fewshot_delimiter",
                                       "target_delimiter",
                                       "chat_template",
                                       "chat_set"};
constexpr int64_t kMaxShots = 1000;

std::vector<std::string> strings(const YamlView& view) {
  std::vector<std::string> out;
  for (const YamlView& item : view.sequence()) out.push_back(item.as_string());
  return out;
}

// {field}, {{ and }}.
std::string checked_prompt(const YamlView& view) {
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
  return prompt;
}

std::vector<std::string> read_labels(const YamlView& view) {
  std::vector<std::string> labels = strings(view);
  if (labels.size() < 2) view.fail("too few labels (expected at least 2)");
  for (size_t i = 0; i < labels.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (labels[i] == labels[j]) view.fail("the same label twice (" + printable(labels[i]) + ")");
    }
  }
  return labels;
}

Regex read_regex(const YamlView& view) {
  try {
    return Regex(view.as_string());
  } catch (const RegexError& error) {
    view.fail(fmt::format("malformed regular expression: {} at character {}", error.what, error.at + 1));
  }
}

// {regex: "...", group: first | last, fallback: "..."}
ExtractRule read_regex_rule(const YamlView& view) {
  view.only_keys({"regex", "group", "fallback"});
  ExtractRule rule;
  rule.kind = ExtractKind::kRegex;
  rule.regex = read_regex(view.at("regex"));
  rule.last = view.has("group") && view.at("group").as_choice({"first", "last"}) == "last";
  if (view.has("fallback")) rule.fallback = view.at("fallback").as_string();
  return rule;
}

// chat_template: true, chat_set: {enable_thinking: false}
void read_chat(const YamlView& view, Task* task) {
  if (view.has("chat_template")) task->chat_template = view.at("chat_template").as_bool();
  if (!view.has("chat_set")) return;
  task->chat_set.clear();
  const YamlView values = view.at("chat_set").as_map();
  ChatTemplate checked;
  for (const auto& [name, value] : values.value().entries) {
    task->chat_set.push_back(name + "=" + values.at(name).as_string());
    try {
      set_chat_variable(task->chat_set.back(), &checked);
    } catch (const Error&) {
      values.at(name).fail("not the name of a variable that may be set");
    }
  }
}

void read_few_shot(const YamlView& view, Task* task) {
  FewShot& shots = task->few_shot;
  if (view.has("description")) shots.description = view.at("description").as_string();
  if (view.has("num_fewshot"))
    shots.count = static_cast<int32_t>(view.at("num_fewshot").as_int(0, kMaxShots));
  if (view.has("fewshot_split")) shots.split = view.at("fewshot_split").as_string();
  if (view.has("fewshot_sampler"))
    shots.random = view.at("fewshot_sampler").as_choice({"first_n", "random"}) == "random";
  if (view.has("fewshot_delimiter")) shots.delimiter = view.at("fewshot_delimiter").as_string();
  if (view.has("target_delimiter")) task->target_delimiter = view.at("target_delimiter").as_string();
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
    task->prompt = checked_prompt(view.at("prompt"));
  }
  if (view.has("prompts")) {
    task->prompts.clear();
    for (const YamlView& prompt : view.at("prompts").sequence()) {
      task->prompts.push_back(checked_prompt(prompt));
    }
    if (task->prompts.size() < 2) view.at("prompts").fail("too few prompts (expected at least 2)");
  }
  if (view.has("continuation")) task->continuation = checked_prompt(view.at("continuation"));
  if (view.has("choices")) task->choices = strings(view.at("choices"));
  if (view.has("choices_from")) task->choices_from = view.at("choices_from").as_string();
  if (view.has("labels")) task->labels = read_labels(view.at("labels"));
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
    if (generate.has("extract") && generate.at("extract").is_map()) {
      task->extract = read_regex_rule(generate.at("extract"));
    } else if (generate.has("extract") &&
               !parse_extract(generate.at("extract").as_string(), &task->extract)) {
      generate.at("extract").fail_expected(extract_rule_names());
    }
  }
  if (view.has("ignore")) {
    task->ignore.clear();
    for (const YamlView& regex : view.at("ignore").sequence()) task->ignore.push_back(read_regex(regex));
  }
  read_few_shot(view, task);
  read_chat(view, task);
}

// What the fields say together.
void check_task(const YamlView& view, Task* task) {
  const auto fail = [&](const char* key, const std::string& what) {
    view.at(view.has(key) ? key : "name").fail(what);
  };
  if (task->data.empty()) fail("data", "no splits");
  const bool choice = task->kind == TaskKind::kMultipleChoice;
  if (task->prompts.empty() != task->continuation.empty())
    fail(task->prompts.empty() ? "continuation" : "prompts", "prompts and continuation belong together");
  if (!task->prompts.empty() &&
      (!choice || !task->prompt.empty() || !task->choices.empty() || !task->choices_from.empty())) {
    fail("prompts", "they stand in place of prompt and choices, in a multiple_choice task");
  }
  if (task->prompts.empty() && task->prompt.empty()) view.at("prompt");
  if (choice) {
    if (!is_choice_metric(task->metric))
      fail("metric", "a multiple_choice task is scored by acc or acc_norm");
    if (task->prompts.empty() && task->choices.empty() == task->choices_from.empty())
      fail("kind", "exactly one of choices and choices_from is needed");
  } else if (is_choice_metric(task->metric)) {
    fail("metric", "acc and acc_norm are for multiple_choice tasks");
  }
  if (!task->ignore.empty() && task->metric != Metric::kExactMatch)
    fail("ignore", "is for the metric exact_match");
  const size_t count = task->prompts.empty() ? task->choices.size() : task->prompts.size();
  if (!task->labels.empty() && count > 0 && task->labels.size() != count) {
    fail("labels", fmt::format("one a choice (expected {}, got {})", count, task->labels.size()));
  }
  if (!task->labels.empty() && !choice && task->choices.empty())
    fail("labels", "labels name choices, and there are none");
  if (task->few_shot.count > 0 && task->data.count(task->few_shot.split) == 0) {
    fail("num_fewshot",
         "fewshot_split is not one of the task's splits (got " + printable(task->few_shot.split) + ")");
  }
  if (!task->chat_set.empty() && !task->chat_template)
    fail("chat_set", "sets variables of a template, which chat_template: true asks for");
  task->extract.thousands = task->protocol == "harness";
  task->extract.ignore = task->ignore;
}

}  // namespace

Task parse_task(const std::string& text, const std::string& path, const std::string& protocol) {
  const YamlValue root = parse_yaml(text, path, ExitCode::kData);
  const YamlView view(root, "", ExitCode::kData);
  std::vector<std::string> keys = kFields;
  keys.insert(keys.end(), {"name", "protocols"});
  view.only_keys(keys);
  Task task;
  task.file = path;
  task.directory = fs::path(path).parent_path().string();
  task.protocol = protocol;
  task.name = view.at("name").as_string();
  for (const char* key : {"kind", "data", "target", "metric"}) view.at(key);
  read_fields(view, &task);
  bool defined = protocol == "harness";
  if (view.has("protocols")) {
    const YamlView protocols = view.at("protocols").as_map();
    protocols.only_keys({"harness", "eep"});
    for (const auto& [name, overrides] : protocols.value().entries) {
      const YamlView here = protocols.at(name).as_map();
      here.only_keys(kFields);
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
  check_task(view, &task);
  return task;
}

Task load_task(const std::string& path, const std::string& protocol) {
  return parse_task(read_file(path), path, protocol);
}

}  // namespace eep
