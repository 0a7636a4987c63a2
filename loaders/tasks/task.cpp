#include "loaders/tasks/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "kernels/common/expected.h"
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
                                       "metrics",
                                       "only",
                                       "fewshot_by",
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
  if (view.has("description")) shots.description = checked_prompt(view.at("description"));
  if (view.has("fewshot_by")) shots.by = view.at("fewshot_by").as_string();
  if (view.has("num_fewshot"))
    shots.count = static_cast<int32_t>(view.at("num_fewshot").as_int(0, kMaxShots));
  if (view.has("fewshot_split")) shots.split = view.at("fewshot_split").as_string();
  if (view.has("fewshot_sampler"))
    shots.random = view.at("fewshot_sampler").as_choice({"first_n", "random"}) == "random";
  if (view.has("fewshot_delimiter")) shots.delimiter = view.at("fewshot_delimiter").as_string();
  if (view.has("target_delimiter")) task->target_delimiter = view.at("target_delimiter").as_string();
}

ExtractRule read_extract(const YamlView& view) {
  if (view.is_map()) return read_regex_rule(view);
  ExtractRule rule;
  if (!parse_extract(view.as_string(), &rule)) view.fail_expected(extract_rule_names());
  return rule;
}

std::vector<Regex> read_ignore(const YamlView& view) {
  std::vector<Regex> ignore;
  for (const YamlView& regex : view.sequence()) ignore.push_back(read_regex(regex));
  return ignore;
}

// {max_new: 20, max_length: 2048, stop: [...], extract: ...}
void read_generate(const YamlView& generate, Task* task) {
  generate.only_keys({"max_new", "max_length", "stop", "extract"});
  if (generate.has("max_new")) task->max_new = static_cast<int32_t>(generate.at("max_new").as_int(1, 100000));
  if (generate.has("max_length"))
    task->max_length = static_cast<int32_t>(generate.at("max_length").as_int(2, 100000000));
  if (generate.has("stop")) {
    task->stop = strings(generate.at("stop"));
    for (const std::string& stop : task->stop) {
      if (stop.empty()) generate.at("stop").fail("a stop string is empty");
    }
  }
  if (generate.has("extract")) task->extract = read_extract(generate.at("extract"));
}

// acc, or {name: strict, metric: exact_match, extract: ...}. What it does not say is the task's own.
ScoreRule read_score_rule(const YamlView& view, const Task& task) {
  ScoreRule rule;
  rule.extract = task.extract;
  if (view.is_map()) {
    view.only_keys({"name", "metric", "extract"});
    if (view.has("extract")) rule.extract = read_extract(view.at("extract"));
    rule.metric = *parse_metric(view.at("metric").as_choice(metric_names()));
  } else {
    rule.metric = *parse_metric(view.as_choice(metric_names()));
  }
  rule.name = view.is_map() && view.has("name") ? view.at("name").as_string() : metric_name(rule.metric);
  return rule;
}

// `metric`, or `metrics` whose first one it is. Behind the fields of generate, whose extraction is theirs.
void read_metrics(const YamlView& view, Task* task) {
  if (view.has("metric") && view.has("metrics"))
    view.at("metrics").fail("stands in place of metric, which is there too");
  if (view.has("metric")) {
    task->metric = *parse_metric(view.at("metric").as_choice(metric_names()));
    task->metric_as = metric_name(task->metric);
    task->more.clear();
  }
  if (!view.has("metrics")) return;
  const std::vector<YamlView> list = view.at("metrics").sequence();
  if (list.empty()) view.at("metrics").fail("no metric (expected at least 1)");
  const Task own = *task;
  task->more.clear();
  for (const YamlView& entry : list) {
    ScoreRule rule = read_score_rule(entry, own);
    const bool twice =
        &entry != &list[0] && (rule.name == task->metric_as ||
                               std::any_of(task->more.begin(), task->more.end(),
                                           [&](const ScoreRule& other) { return other.name == rule.name; }));
    if (twice)
      entry.fail("two metrics of the same name (" + printable(rule.name) + "): name: tells them apart");
    if (&entry != &list[0]) {
      task->more.push_back(std::move(rule));
      continue;
    }
    task->metric = rule.metric;
    task->metric_as = rule.name;
    task->extract = rule.extract;
  }
}

// only: {field: value, other: [value, value]}
void read_only(const YamlView& view, Task* task) {
  task->only.clear();
  const YamlView map = view.as_map();
  for (const auto& [field, value] : map.value().entries) {
    const YamlView here = map.at(field);
    task->only[field] = here.is_sequence() ? strings(here) : std::vector<std::string>{here.as_string()};
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
  if (view.has("only")) read_only(view.at("only"), task);
  if (view.has("generate")) read_generate(view.at("generate").as_map(), task);
  if (view.has("ignore")) task->ignore = read_ignore(view.at("ignore"));
  read_metrics(view, task);
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
  const char* metric_key = view.has("metrics") ? "metrics" : "metric";
  std::vector<Metric> metrics{task->metric};
  for (const ScoreRule& rule : task->more) metrics.push_back(rule.metric);
  for (const Metric metric : metrics) {
    if (choice && !is_choice_metric(metric))
      fail(metric_key, "a multiple_choice task is scored by acc, acc_norm, acc_bytes or macro_f1");
    if (!choice && is_choice_metric(metric))
      fail(metric_key, "acc, acc_norm, acc_bytes and macro_f1 are for multiple_choice tasks");
  }
  if (task->metric == Metric::kMacroF1)
    fail(metric_key,
         "macro_f1 is of all items together: it stands behind another, which is one of each item");
  if (std::find(metrics.begin(), metrics.end(), Metric::kMacroF1) != metrics.end() && task->choices.empty())
    fail(metric_key, "macro_f1 is for choices that all items have in common");
  if (choice) {
    if (task->prompts.empty() && task->choices.empty() == task->choices_from.empty())
      fail("kind", "exactly one of choices and choices_from is needed");
  }
  if (!task->ignore.empty() &&
      std::find(metrics.begin(), metrics.end(), Metric::kExactMatch) == metrics.end())
    fail("ignore", "is for the metric exact_match");
  const size_t count = task->prompts.empty() ? task->choices.size() : task->prompts.size();
  if (!task->labels.empty() && count > 0 && task->labels.size() != count) {
    fail("labels", "one a choice" + expected_got(count, task->labels.size()));
  }
  if (!task->labels.empty() && !choice && task->choices.empty())
    fail("labels", "labels name choices, and there are none");
  if (task->few_shot.count > 0 && task->data.count(task->few_shot.split) == 0) {
    fail("num_fewshot",
         "fewshot_split is not one of the task's splits (got " + printable(task->few_shot.split) + ")");
  }
  if (!task->chat_set.empty() && !task->chat_template)
    fail("chat_set", "sets variables of a template, which chat_template: true asks for");
  const auto complete = [&](Metric metric, ExtractRule* rule) {
    rule->thousands = task->protocol == "harness";
    if (metric == Metric::kExactMatch) rule->ignore = task->ignore;
  };
  complete(task->metric, &task->extract);
  for (ScoreRule& rule : task->more) complete(rule.metric, &rule.extract);
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
  for (const char* key : {"kind", "data", "target"}) view.at(key);
  if (!view.has("metrics")) view.at("metric");
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
      if (here.has("prompt")) {
        overridden.prompts.clear();
        overridden.continuation.clear();
      }
      if (here.has("prompts")) overridden.prompt.clear();
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
