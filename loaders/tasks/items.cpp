// Items of a task's splits: a row of data, what it is asked, its right answer, and the examples before it.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/tasks/check_target.h"
#include "loaders/tasks/task.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

std::string field_text(const Json& item, const std::string& field, const std::string& where) {
  const auto found = item.find(field);
  if (found == item.end()) throw Error(ExitCode::kData, where, "field " + printable(field) + " is missing");
  if (found->is_string()) return found->get<std::string>();
  if (found->is_boolean()) return found->get<bool>() ? "true" : "false";
  if (found->is_number()) return found->dump();
  throw Error(
      ExitCode::kData, where,
      fmt::format("field {}: wrong type", field) + expected_got("text or a number", found->type_name()));
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

bool is_numeral(const std::string& text) {
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return text.size() > sign && text.find_first_not_of("0123456789", sign) == std::string::npos;
}

// The choice that means `value` (true, yes), where the two choices mean opposite things; else -1.
int32_t meaning_of(bool value, const std::vector<std::string>& choices) {
  if (choices.size() != 2) return -1;
  const std::string first = lower_case(strip(choices[0])), second = lower_case(strip(choices[1]));
  for (const auto& [yes, no] : {std::pair{"true", "false"}, {"yes", "no"}}) {
    if (first == yes && second == no) return value ? 0 : 1;
    if (first == no && second == yes) return value ? 1 : 0;
  }
  return -1;
}

// The choice that an item's target names: by its label, by its text, or by its index, and never by one of
// them where another says something else.
int32_t label_of(const Task& task, const Json& target, const std::vector<std::string>& choices,
                 const std::string& where) {
  const std::string& field = task.target;
  const int32_t count = static_cast<int32_t>(choices.size());
  const std::string text = target.is_string() ? target.get<std::string>() : target.dump();
  const std::string got = target.is_string() ? "\"" + printable(text) + "\"" : printable(text);
  const auto refuse = [&](const std::string& what, const std::string& hint = {}) {
    throw Error(ExitCode::kData, where, fmt::format("field {}: {}", field, what), hint);
  };
  const std::string remedy =
      "say in the task file what target may hold, in the order of the choices: labels: [...]";
  if (!task.labels.empty()) {
    const auto found = std::find(task.labels.begin(), task.labels.end(), text);
    const auto index = found - task.labels.begin();
    if (found == task.labels.end() || index >= count) {
      refuse("no such label" +
             expected_got(
                 fmt::format("one of {}", fmt::join(task.labels.begin(),
                                                    task.labels.begin() +
                                                        std::min<int64_t>(count, std::ssize(task.labels)),
                                                    ", ")),
                 got));
    }
    return static_cast<int32_t>(index);
  }
  int32_t named = -1, same = 0;
  for (int32_t i = 0; i < count; ++i) {
    const std::string& choice = choices[static_cast<size_t>(i)];
    if (strip(choice) != strip(text)) continue;
    ++same;
    if (named < 0 || choice == text) named = i;
  }
  if (same > 1 && choices[static_cast<size_t>(named)] != text)
    refuse(fmt::format("ambiguous: {} choices have the text {}", same, got), remedy);
  if (target.is_boolean() || (target.is_string() && (text == "true" || text == "false"))) {
    if (named < 0) named = meaning_of(text == "true", choices);
    if (named < 0) refuse("ambiguous: a boolean that no choice names (got " + got + ")", remedy);
    return named;
  }
  const std::string expected =
      "no such choice" + expected_got(fmt::format("0..{} or the text of a choice", count - 1), got);
  if (target.is_number_integer()) {
    const bool large = target.is_number_unsigned() && target.get<uint64_t>() > uint64_t{INT32_MAX};
    const int64_t given = large ? -1 : target.get<int64_t>();
    const int32_t index = given >= 0 && given < count ? static_cast<int32_t>(given) : -1;
    if (index >= 0 && named >= 0 && named != index) {
      refuse(fmt::format("ambiguous: {} is the text of choice {} and the index of another", got, named),
             remedy);
    }
    if (index < 0 && named < 0) refuse(expected);
    return index >= 0 ? index : named;
  }
  if (target.is_string() && named >= 0) return named;
  if (target.is_string() && is_numeral(text) && text.size() < 19)  // longer ones are kept as written
    refuse("ambiguous: a numeral in quotes that is not the text of a choice (got " + got + ")", remedy);
  refuse(expected, target.is_string() && text.size() == 1 ? remedy : "");
  return -1;
}

// Two questions are the same if they ask the same of the same choices, in whatever order.
std::string identity_of(const Item& item) {
  std::vector<std::string> parts;
  for (const std::string& choice : item.choices) parts.push_back(strip(choice));
  std::sort(parts.begin(), parts.end());
  if (item.choices.empty()) parts = item.references;
  std::string text = strip(item.prompt);
  for (const std::string& part : parts) text += '\0' + part;
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

void read_references(const Task& task, const Json& row, const Json& target, Item* item) {
  const std::string& where = item->where;
  const bool names_choice = target.is_boolean() || target.is_number_integer() || !task.labels.empty() ||
                            (target.is_string() && is_numeral(target.get<std::string>()));
  if (target.is_array()) {
    for (const Json& reference : target) {
      if (!reference.is_string() && !reference.is_number())
        throw Error(ExitCode::kData, where,
                    "field " + task.target + ": an answer is neither text nor a number");
      item->references.push_back(reference.is_string() ? reference.get<std::string>() : reference.dump());
    }
  } else if (!task.choices.empty() && names_choice) {
    item->references.push_back(
        task.choices[static_cast<size_t>(label_of(task, target, task.choices, where))]);
  } else {
    item->references.push_back(field_text(row, task.target, where));
  }
  if (item->references.empty())
    throw Error(ExitCode::kData, where, "field " + task.target + ": no accepted answer");
  if (task.protocol != "harness") return;
  for (const std::string& reference : item->references) {
    if (!normalises_to_nothing(task.metric, task.extract, reference)) continue;
    throw Error(ExitCode::kData, where,
                fmt::format("field {}: nothing is left of the answer {} for the metric {}, which every {} "
                            "would meet",
                            task.target, "\"" + printable(reference) + "\"", metric_name(task.metric),
                            task.metric == Metric::kExactMatch ? "output that `ignore` empties" : "output"));
  }
  std::string wanted;
  for (const std::string& reference : item->references) {
    wanted = out_of_reach(task.metric, task.extract, reference);
    if (wanted.empty()) return;
  }
  throw Error(ExitCode::kData, where,
              fmt::format("field {}: no answer that generate.extract gives can be right", task.target) +
                  expected_got(wanted, fmt::format("\"{}\"", printable(item->references[0]))));
}

// `choices` are texts: one that names a field in braces would be asked as it stands.
void refuse_placeholder(const std::string& choice, const Json& row, const std::string& where) {
  for (size_t open = choice.find('{'); open != std::string::npos; open = choice.find('{', open + 1)) {
    const size_t end = choice.find('}', open);
    if (end == std::string::npos) return;
    const std::string name = choice.substr(open + 1, end - open - 1);
    if (!row.is_object() || row.find(name) == row.end()) continue;
    throw Error(ExitCode::kData, where,
                fmt::format("choices: fields are not filled in there (got \"{}\", and the item has {})",
                            printable(choice), printable(name)),
                "choices_from: FIELD takes a list of the item, prompts and continuation are filled in");
  }
}

void read_choices(const Task& task, const Json& row, Item* item) {
  const std::string& where = item->where;
  item->choices = task.choices;
  for (const std::string& choice : task.choices) refuse_placeholder(choice, row, where);
  for (const std::string& prompt : task.prompts) item->choices.push_back(render(prompt, row, where));
  if (!task.choices_from.empty()) {
    const auto list = row.find(task.choices_from);
    if (list == row.end()) throw Error(ExitCode::kData, where, "field " + task.choices_from + " is missing");
    if (!list->is_array()) throw Error(ExitCode::kData, where, "field " + task.choices_from + ": not a list");
    for (const Json& choice : *list) {
      if (!choice.is_string())
        throw Error(ExitCode::kData, where, "field " + task.choices_from + ": a choice is not text");
      item->choices.push_back(choice.get<std::string>());
    }
  }
  if (item->choices.size() < 2) {
    throw Error(ExitCode::kData, where, "too few choices" + expected_got("at least 2", item->choices.size()));
  }
  if (std::any_of(item->choices.begin(), item->choices.end(),
                  [](const auto& choice) { return choice.empty(); }))
    throw Error(ExitCode::kData, where, "a choice is empty");
}

// Wrong choices may stand twice, as they do in published data; the right one may not stand among the wrong
// ones.
void check_right_choice(const Item& item) {
  std::vector<int32_t> right = item.also;
  right.push_back(item.label);
  for (const int32_t one : right) {
    const std::string& text = item.choices[static_cast<size_t>(one)];
    for (int32_t i = 0; i < std::ssize(item.choices); ++i) {
      if (i == one || item.choices[static_cast<size_t>(i)] != text) continue;
      throw Error(ExitCode::kData, item.where,
                  fmt::format("choices {} and {} are equal: the right one cannot be told (got \"{}\")",
                              std::min(i, one), std::max(i, one), printable(text)));
    }
  }
}

// One right choice, or a list of them.
void read_label(const Task& task, const Json& target, Item* item) {
  if (!target.is_array()) {
    item->label = label_of(task, target, item->choices, item->where);
    return;
  }
  if (target.empty()) throw Error(ExitCode::kData, item->where, "field " + task.target + ": no right choice");
  item->label = label_of(task, target[0], item->choices, item->where);
  for (size_t i = 1; i < target.size(); ++i)
    item->also.push_back(label_of(task, target[i], item->choices, item->where));
}

Item make_item(const Task& task, const Json& row, const std::string& where) {
  if (!row.is_object()) {
    throw Error(ExitCode::kData, where,
                "not an object" + expected_got("one JSON object a line (JSON Lines)",
                                               row.is_array() ? "an array" : row.type_name()));
  }
  Item item;
  item.where = where;
  item.prompt = render(one_continuation(task) ? task.continuation : task.prompt, row, where);
  const auto target = row.find(task.target);
  if (target == row.end()) throw Error(ExitCode::kData, where, "field " + task.target + " is missing");
  if (task.kind == TaskKind::kGenerate) {
    read_references(task, row, *target, &item);
  } else {
    read_choices(task, row, &item);
    read_label(task, *target, &item);
    check_right_choice(item);
  }
  item.identity = identity_of(item);
  item.before = render(task.few_shot.description, row, where);
  if (!task.few_shot.by.empty()) item.group = field_text(row, task.few_shot.by, where);
  // Behind a template there is no delimiter, as in lm-evaluation-harness.
  if (task.target_delimiter && !one_continuation(task) && !task.chat_template) {
    for (std::string& choice : item.choices) choice = *task.target_delimiter + choice;
  }
  return item;
}

// An item with its answer, as an example before another.
std::string solved(const Task& task, const Item& item) {
  if (one_continuation(task)) return item.choices[static_cast<size_t>(item.label)] + item.prompt;
  if (task.kind == TaskKind::kMultipleChoice)
    return item.prompt + item.choices[static_cast<size_t>(item.label)];
  const std::string& answer = item.references[0];
  const auto blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  if (task.target_delimiter) return item.prompt + *task.target_delimiter + answer;
  const bool apart = item.prompt.empty() || answer.empty() || blank(item.prompt.back()) || blank(answer[0]);
  return item.prompt + (apart ? "" : " ") + answer;
}

// `count` of the pool for item `index`: the first ones, or drawn by the seed; never the item itself.
std::vector<size_t> choose_shots(const FewShot& shots, const std::vector<Item>& pool, const Item& item,
                                 size_t index) {
  std::vector<size_t> others;
  for (size_t i = 0; i < pool.size(); ++i) {
    if (pool[i].where != item.where && pool[i].group == item.group) others.push_back(i);
  }
  const size_t count = static_cast<size_t>(shots.count);
  if (others.size() < count) {
    throw Error(ExitCode::kData, item.where,
                fmt::format("num_fewshot: too few examples in split {}{}", shots.split,
                            shots.by.empty() ? "" : " of " + shots.by + " " + printable(item.group)) +
                    expected_got(count, others.size()));
  }
  for (size_t i = 0; shots.random && i < count; ++i) {
    const uint64_t address[] = {index, i};
    std::swap(others[i], others[i + XXH64(address, sizeof address, shots.seed) % (others.size() - i)]);
  }
  others.resize(count);
  return others;
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

// Not one object a line: an array, or objects over several lines.
[[noreturn]] void refuse_document(const std::string& where, const std::string& what) {
  throw Error(ExitCode::kData, where, what + " where one JSON object a line is expected (JSON Lines)",
              "jq -c '.[]' FILE writes an array as lines, jq -c . FILE writes each object on one line");
}

// The prompt as the model's template writes it, if the task is asked through one; the description is the
// system message.
std::string asked(const Task& task, const Item& item, const std::string& before, const std::string& prompt) {
  if (!task.chat) return before + prompt;
  std::vector<ChatMessage> messages;
  if (!item.before.empty()) messages.push_back({"system", item.before, {}});
  messages.push_back({"user", before + prompt, {}});
  try {
    return render_chat(*task.chat, messages);
  } catch (const Error& error) {
    throw Error(error.code(), item.where, error.what(), "chat_template: false asks without a template");
  }
}

// Whether an item has what `only` asks for.
bool is_asked(const Task& task, const Json& row, const std::string& where) {
  return std::all_of(task.only.begin(), task.only.end(), [&](const auto& rule) {
    const auto& [field, values] = rule;
    return std::find(values.begin(), values.end(), field_text(row, field, where)) != values.end();
  });
}

// The first `limit` items (0: all), each without what stands before it. all: `only` does not count.
std::vector<Item> read_items(const Task& task, const std::string& split, int64_t limit, bool all = false) {
  const std::string path = data_file(task, split);
  const std::string text = read_file(path);
  std::vector<Item> items;
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size() && (limit == 0 || static_cast<int64_t>(items.size()) < limit);) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    ++line;
    const std::string_view whole = std::string_view(text).substr(begin, end - begin);
    const std::string row = strip(whole), where = fmt::format("{}:{}", path, line);
    begin = end + 1;
    if (row.empty()) continue;
    if (items.empty() && row[0] == '[') refuse_document(where, "a JSON array");
    if (row == "{") refuse_document(where, "a JSON object over several lines");
    const Json value = parse_json(whole, path, line, Numbers::kAsWritten);
    if (!all && value.is_object() && !is_asked(task, value, where)) continue;
    items.push_back(make_item(task, value, where));
  }
  if (items.empty()) throw Error(ExitCode::kData, path, "no items (expected at least 1)");
  return items;
}

}  // namespace

void check_target(const Task& task, const Json& row, const std::string& where) {
  const auto target = row.find(task.target);
  if (target == row.end()) throw Error(ExitCode::kData, where, "field " + task.target + " is missing");
  std::vector<std::string> choices = task.choices;
  if (const auto list = row.find(task.choices_from); !task.choices_from.empty() && list != row.end()) {
    for (const Json& choice : *list) choices.push_back(choice.is_string() ? choice.get<std::string>() : "");
  }
  for (size_t i = 0; i < task.prompts.size(); ++i) choices.push_back("prompt " + std::to_string(i));
  const bool named = !task.labels.empty() || target->is_number_integer() || target->is_boolean();
  if (choices.empty() || (task.kind == TaskKind::kGenerate && !named)) return;
  if (!target->is_array()) {
    label_of(task, *target, choices, where);
    return;
  }
  for (const Json& one : *target) label_of(task, one, choices, where);
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
  std::vector<Item> items = read_items(task, split, limit);
  const FewShot& shots = task.few_shot;
  if (shots.count == 0 && shots.description.empty() && !task.chat) return items;
  std::vector<Item> pool;
  if (shots.count > 0) pool = read_items(task, shots.split, 0, /*all=*/true);
  for (size_t i = 0; i < items.size(); ++i) {
    std::string before = task.chat ? "" : items[i].before;
    if (shots.count > 0) {
      for (size_t shot : choose_shots(shots, pool, items[i], i))
        before += solved(task, pool[shot]) + shots.delimiter;
    }
    if (one_continuation(task)) {
      for (std::string& prompt : items[i].choices) prompt = asked(task, items[i], before, prompt);
    } else {
      items[i].prompt = asked(task, items[i], before, items[i].prompt);
    }
  }
  return items;
}

void use_chat_template(Task* task, const std::string& model_directory) {
  if (!task->chat_template) return;
  task->chat = find_chat_template(model_directory);
  if (!task->chat)
    throw Error(ExitCode::kUsage, task->file,
                "chat_template: no chat template in the files of " + model_directory,
                "chat_template: false asks without a template");
  for (const std::string& assignment : task->chat_set) set_chat_variable(assignment, &*task->chat);
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
    for (const int32_t other : item.also) bytes += std::to_string(other) + ",";
  }
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("xxh3:{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace eep
