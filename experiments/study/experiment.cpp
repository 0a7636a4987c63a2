// Reading experiment files: fields, overrides, sweeps, paths.
#include "experiments/study/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "experiments/study/experiment_fields.h"
#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxCombinations = 10000;
constexpr size_t kMaxFileName = 255;

class Reader {
 public:
  // where: gets the place of every field, or that of the section which lacks it; or null.
  Reader(const YamlView& root, std::map<std::string, std::string>* where) : where_(where) {
    views_.push_back(root);
    known_.emplace_back();
  }

  template <typename Body>
  void section(const char* name, const Body& body) {
    note(name);
    static const YamlValue kEmpty = [] {
      YamlValue value;
      value.kind = YamlValue::Kind::kMap;
      return value;
    }();
    const YamlView& parent = views_.back();
    const std::string path = parent.path().empty() ? name : parent.path() + "." + name;
    YamlView view(kEmpty, path, ExitCode::kConfig);
    if (parent.has(name)) {
      view = parent.at(name).as_map();
    } else {
      empty_.where = parent.value().where;
      empty_.kind = YamlValue::Kind::kMap;
      view = YamlView(empty_, path, ExitCode::kConfig);
    }
    views_.push_back(view);
    known_.emplace_back();
    body();
    finish();
  }
  void finish() {
    views_.back().only_keys(known_.back());
    views_.pop_back();
    known_.pop_back();
  }
  void note(const char* name) {
    known_.back().push_back(name);
    if (where_ == nullptr) return;
    const YamlView& parent = views_.back();
    const std::string path = parent.path().empty() ? name : parent.path() + "." + name;
    (*where_)[path] = (parent.has(name) ? parent.at(name) : parent).value().where;
  }

  void text(const char* name, std::string& value, bool required) {
    note(name);
    if (required || views_.back().has(name)) {
      const YamlView at = views_.back().at(name);
      value = at.as_string();
      if (value.empty()) at.fail_expected("text");
    }
  }
  void word(const char* name, std::string& value, const std::vector<std::string>& allowed) {
    note(name);
    if (views_.back().has(name)) value = views_.back().at(name).as_choice(allowed);
  }
  void choice(const char* name, uint8_t& value, std::span<const std::string_view> names) {
    std::string text(names[value]);
    word(name, text, strings(names));
    value = static_cast<uint8_t>(std::find(names.begin(), names.end(), text) - names.begin());
  }
  template <typename Integer>
  void integer(const char* name, Integer& value, int64_t smallest, int64_t largest) {
    note(name);
    if (views_.back().has(name)) {
      value = static_cast<Integer>(views_.back().at(name).as_int(smallest, largest));
    }
  }
  bool holds(std::string_view, bool) const { return true; }
  void kept(const char* name, Experiment& e) {
    note(name);
    const YamlView at = views_.back().at(name);
    if (!at.is_map()) {
      e.experts = at.as_int(1, kMostExperts);
      return;
    }
    at.only_keys({"total", "min", "max"});
    e.counts.total = at.at("total").as_int(1, kMostKept);
    if (at.has("min")) e.counts.least = at.at("min").as_int(1, kMostExperts);
    if (at.has("max")) e.counts.most = at.at("max").as_int(e.counts.least, kMostExperts);
  }
  void active(const char* name, Experiment& e) {
    note(name);
    if (!views_.back().has(name)) return;
    const YamlView at = views_.back().at(name);
    if (!at.is_map()) {
      e.top_k = at.as_int(0, kMostActive);
      return;
    }
    at.only_keys({"min", "max"});
    e.top_k = at.at("max").as_int(1, kMostActive);
    e.top_k_least = at.at("min").as_int(1, e.top_k);
  }
  void number(const char* name, double& value, double smallest, double largest) {
    note(name);
    if (views_.back().has(name)) value = views_.back().at(name).as_number(smallest, largest);
  }
  void flag(const char* name, bool& value) {
    note(name);
    if (views_.back().has(name)) value = views_.back().at(name).as_bool();
  }
  void words(const char* name, std::vector<std::string>& value, const std::vector<std::string>& allowed) {
    note(name);
    if (!views_.back().has(name)) return;
    value.clear();
    for (const YamlView& item : views_.back().at(name).sequence()) {
      const std::string word = item.as_choice(allowed);
      for (const std::string& earlier : value) {
        if (earlier == word) item.fail("named twice (" + word + ")");
      }
      value.push_back(word);
    }
  }
  void tasks(const char* name, std::vector<TaskUse>& value) {
    note(name);
    if (!views_.back().has(name)) return;
    value.clear();
    for (const YamlView& item : views_.back().at(name).sequence()) {
      const YamlView map = item.as_map();
      map.only_keys({"name", "weight", "guard", "test"});
      TaskUse use;
      use.name = map.at("name").as_string();
      if (map.has("weight")) use.weight = map.at("weight").as_number(0, 1e6);
      if (map.has("guard")) use.guard = map.at("guard").as_number(0, 100);
      if (map.has("test")) use.test = map.at("test").as_string();
      for (const TaskUse& earlier : value) {
        if (earlier.name == use.name && earlier.test == use.test) item.fail("named twice (" + use.name + ")");
      }
      value.push_back(std::move(use));
    }
  }
  void groups(const char* name, std::string& value) {
    note(name);
    if (!views_.back().has(name)) return;
    const YamlView at = views_.back().at(name);
    if (at.is_scalar() && at.value().scalar == "per_layer") {
      value = "per_layer";
    } else {
      const std::string text = at.is_scalar() ? at.value().scalar : "";
      if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
        at.fail_expected("a number of layer groups, or per_layer");
      }
      value = std::to_string(at.as_int(1, 10000));
    }
  }

  void paths_from() {
    note("paths_from");
    if (views_.back().has("paths_from")) views_.back().at("paths_from").as_string();
  }
  void sweep(Experiment& e) {
    note("sweep");
    if (!views_.back().has("sweep")) return;
    const YamlView map = views_.back().at("sweep").as_map();
    for (const auto& [key, value] : map.value().entries) {
      const YamlView list = map.at(key);
      if (key.starts_with("sweep")) list.fail("a sweep cannot be swept");
      std::vector<std::string> values;
      for (const YamlView& item : list.sequence()) {
        if (!item.is_scalar()) item.fail_expected("a single value");
        const std::string text = item.as_string();
        if (text.empty() || text.find_first_of("\\,\n=") != std::string::npos) {
          item.fail("a swept value names a directory" + expected_got("text without \\ , =", printable(text)));
        }
        for (const std::string& earlier : values) {
          if (earlier == text) item.fail("the same value twice (" + text + ")");
        }
        values.push_back(text);
      }
      if (values.empty()) list.fail("no values (expected at least 1)");
      e.sweep.emplace_back(key, values);
    }
  }

 private:
  std::vector<YamlView> views_;
  std::vector<std::vector<std::string>> known_;
  std::map<std::string, std::string>* where_;
  YamlValue empty_;
};

// The first of `tasks` is `task.name`, unless that is there.
YamlValue with_task_name(const YamlValue& root) {
  const YamlValue *tasks = root.find("tasks"), *task = root.find("task");
  const bool named = task != nullptr && task->kind == YamlValue::Kind::kMap && task->find("name") != nullptr;
  if (named || tasks == nullptr || tasks->items.empty()) return root;
  const YamlValue* name = tasks->items[0].find("name");
  if (name == nullptr || name->kind != YamlValue::Kind::kScalar) return root;
  YamlValue tree = root;
  set_yaml(&tree, "task.name", yaml_string(name->scalar), name->where);
  return tree;
}

// `task` is one of `tasks`, and some task counts.
void check_tasks(const YamlValue& root, Experiment* e) {
  if (e->tasks.empty()) return;
  const auto main = std::find_if(e->tasks.begin(), e->tasks.end(),
                                 [&](const TaskUse& use) { return use.name == e->task && use.test.empty(); });
  if (main == e->tasks.end()) {
    TaskUse own;
    own.name = e->task;
    e->tasks.insert(e->tasks.begin(), own);
  } else {
    std::rotate(e->tasks.begin(), main, main + 1);
  }
  if (std::all_of(e->tasks.begin(), e->tasks.end(), [](const TaskUse& use) { return use.weight == 0; }))
    throw Error(ExitCode::kConfig, root.where, "tasks: no task has a weight above 0");
}

Experiment read(const YamlValue& given, const std::string& default_name, const std::string& directory,
                std::map<std::string, std::string>* where = nullptr) {
  const YamlValue root = with_task_name(given);
  Experiment e;
  e.name = default_name;
  e.directory = directory;
  Reader reader(YamlView(root, "", ExitCode::kConfig).as_map(), where);
  visit_experiment(reader, e);
  reader.paths_from();
  reader.sweep(e);
  reader.finish();
  check_tasks(root, &e);
  if (e.name.find_first_of("/\n") != std::string::npos) {
    throw Error(ExitCode::kConfig, root.where,
                "name: it names a directory" + expected_got("text without /", printable(e.name)));
  }
  return e;
}

YamlValue tree_of(const std::string& text, const std::string& where, const Overrides& overrides) {
  YamlValue root = parse_yaml(text, where);
  for (const std::string& override_text : overrides) {
    const size_t equals = override_text.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw Error(ExitCode::kUsage, "--set",
                  "not of the form KEY=VALUE (got " + printable(override_text) + ")");
    }
    const std::string key = override_text.substr(0, equals);
    const std::string value = override_text.substr(equals + 1), option = "--set " + printable(key);
    if (key.starts_with("sweep.")) {
      set_yaml(&root, std::vector<std::string>{"sweep", key.substr(6)}, value, option);  // a key with dots
    } else {
      set_yaml(&root, key, value, option);
    }
  }
  return root;
}

// Of a swept task name: NAME.yaml in the directory of the file that the unswept task.name names, or "".
std::string task_beside(const YamlValue& root, const Combination& combination, const std::string& directory) {
  const YamlValue* task = root.find("task");
  const YamlValue* base = task == nullptr ? nullptr : task->find("name");
  for (const auto& [key, value] : combination.values) {
    if (key != "task.name" || value.find('/') != std::string::npos) continue;
    if (base == nullptr || base->scalar.find('/') == std::string::npos) continue;
    const fs::path file = fs::path(resolve_path(base->scalar, directory)).parent_path() / (value + ".yaml");
    if (file_exists(file.string())) return file.string();
  }
  return "";
}

// Overrides of swept fields, in place of their lists.
void override_sweep(YamlValue* root, const Overrides& overrides, std::vector<std::string>* notes) {
  for (const std::string& text : overrides) {
    const size_t equals = text.find('=');
    const std::string key = text.substr(0, equals), value = text.substr(equals + 1);
    const YamlValue* sweep = root->find("sweep");
    if (sweep == nullptr || sweep->kind != YamlValue::Kind::kMap || sweep->find(key) == nullptr) continue;
    set_yaml(root, std::vector<std::string>{"sweep", key}, "[" + value + "]", "--set " + printable(key));
    if (notes != nullptr) notes->push_back(fmt::format("{}: {} in place of the sweep's values", key, value));
  }
}

const YamlValue* find_path(const YamlValue& root, const std::string& path) {
  const YamlValue* value = &root;
  for (size_t begin = 0; value != nullptr && begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    if (value->kind != YamlValue::Kind::kMap) return nullptr;
    value = value->find(std::string_view(path).substr(begin, end - begin));
    begin = end + 1;
  }
  return value;
}

// The same text, or the same number: 5e-2 is 0.05.
bool same_scalar(const std::string& a, const std::string& b) {
  if (a == b) return true;
  char *end_a = nullptr, *end_b = nullptr;
  const double x = std::strtod(a.c_str(), &end_a), y = std::strtod(b.c_str(), &end_b);
  return !a.empty() && !b.empty() && *end_a == 0 && *end_b == 0 && x == y;
}

// A value beside a sweep that does not have it would be ignored. Paths are spelt in many ways, and task.name
// may say where the swept ones lie.
void refuse_ignored(const YamlValue& root, const YamlValue& sweep) {
  for (const auto& [key, values] : sweep.entries) {
    const YamlValue* value = find_path(root, key);
    if (key == "task.name" || key == "model.path" || value == nullptr) continue;
    if (value->kind != YamlValue::Kind::kScalar || values.kind != YamlValue::Kind::kSequence) continue;
    std::vector<std::string> swept;
    for (const YamlValue& item : values.items) swept.push_back(item.scalar);
    const auto equal = [&](const std::string& item) { return same_scalar(item, value->scalar); };
    if (std::any_of(swept.begin(), swept.end(), equal)) continue;
    throw Error(ExitCode::kConfig, value->where,
                fmt::format("{}: beside a sweep that does not have it", key) +
                    expected_got(fmt::format("one of {}", fmt::join(swept, ", ")), printable(value->scalar)));
  }
}

// Of a swept path one spelling, also as label: ./a and a/ are a, and so is DIRECTORY/a, the experiment's.
std::string plain_value(const std::string& key, const std::string& value, const std::string& directory) {
  if (!names_path(key) || value.find('/') == std::string::npos) return value;
  fs::path plain = fs::path(value).lexically_normal();
  if (plain.is_absolute()) {
    const fs::path inside = plain.lexically_relative(directory);
    const bool task_name = key == "task.name" && inside.string().find('/') == std::string::npos &&
                           inside.extension() != ".yaml" && inside.extension() != ".yml";
    if (!inside.empty() && *inside.begin() != ".." && inside != "." && !task_name) plain = inside;
  }
  const std::string text = plain.string();
  return text.size() > 1 && text.ends_with('/') ? text.substr(0, text.size() - 1) : text;
}

// Paths of a sweep that name one file in two spellings would be two rows of one model.
void refuse_same_path(const std::string& key, const std::vector<std::string>& values, const YamlValue& list,
                      const std::string& directory) {
  if (key != "model.path" && key != "search.start") return;
  std::map<std::string, std::string> spelt;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto [first, fresh] =
        spelt.try_emplace(resolve_path(plain_value(key, values[i], directory), directory), values[i]);
    if (fresh) continue;
    throw Error(ExitCode::kConfig, i < list.items.size() ? list.items[i].where : list.where,
                fmt::format("sweep.{}[{}]: the same path twice ({} and {})", key, i, printable(first->second),
                            printable(values[i])));
  }
}

std::string directory_of(const std::string& path) {
  return fs::absolute(fs::path(path)).lexically_normal().parent_path().string();
}

// Where relative paths start: paths_from, or the directory of the file.
std::string base_of(const YamlValue& root, const std::string& directory) {
  const YamlValue* from = root.find("paths_from");
  if (from == nullptr || from->kind != YamlValue::Kind::kScalar || from->scalar.empty()) return directory;
  std::string base = (fs::path(directory) / from->scalar).lexically_normal().string();
  if (base.size() > 1 && base.ends_with('/')) base.pop_back();
  return base;
}

}  // namespace

bool names_path(std::string_view key) {
  return key == "task.name" || key == "model.path" || key == "search.start";
}

Experiment parse_experiment(const std::string& text, const std::string& where, const std::string& directory,
                            const Overrides& overrides) {
  const YamlValue root = tree_of(text, where, overrides);
  return read(root, "experiment", base_of(root, directory));
}

Experiment load_experiment(const std::string& path, const Overrides& overrides) {
  const YamlValue root = tree_of(read_file(path), path, overrides);
  return read(root, fs::path(path).stem().string(), base_of(root, directory_of(path)));
}

std::vector<Combination> expand_sweep(const std::string& path, const Overrides& overrides,
                                      std::vector<std::string>* notes) {
  YamlValue root = tree_of(read_file(path), path, overrides);
  override_sweep(&root, overrides, notes);
  const std::string stem = fs::path(path).stem().string(), directory = base_of(root, directory_of(path));
  const YamlValue* found = root.find("sweep");
  const YamlValue sweep = found == nullptr ? YamlValue{} : *found;
  refuse_ignored(root, sweep);
  // Swept keys need no value of their own; the first stands in while the sweep itself is read.
  YamlValue probe = root;
  for (const auto& [key, values] : sweep.entries) {
    if (values.kind == YamlValue::Kind::kSequence && !values.items.empty() &&
        values.items[0].kind == YamlValue::Kind::kScalar && !key.starts_with("sweep")) {
      set_yaml(&probe, key, values.items[0].scalar, values.where);
    }
  }
  const Experiment all = read(probe, stem, directory);
  std::vector<Combination> combinations(1);
  for (const auto& [key, values] : all.sweep) {
    if (combinations.size() * values.size() > kMaxCombinations) {
      throw Error(ExitCode::kConfig, sweep.where,
                  fmt::format("sweep: too many combinations (expected at most {})", kMaxCombinations));
    }
    refuse_same_path(key, values, *sweep.find(key), directory);
    std::vector<Combination> longer;
    for (const Combination& shorter : combinations) {
      for (const std::string& given : values) {
        const std::string value = plain_value(key, given, directory);
        Combination next = shorter;
        next.values.emplace_back(key, value);
        next.name += (next.name.empty() ? "" : ",") + key + "=" + value;
        std::replace(next.name.begin(), next.name.end(), '/', '_');
        if (next.name.size() > kMaxFileName) {
          throw Error(ExitCode::kConfig, sweep.where,
                      "sweep: a directory's name is too long" +
                          expected_got(fmt::format("at most {} bytes", kMaxFileName), printable(next.name)));
        }
        longer.push_back(std::move(next));
      }
    }
    combinations = std::move(longer);
  }
  std::erase_if(root.entries, [](const auto& entry) { return entry.first == "sweep"; });
  root.key_where.clear();
  for (const auto& entry : root.entries) root.key_where.push_back(entry.second.where);
  std::set<std::string> names;
  for (Combination& combination : combinations) {
    YamlValue tree = root;
    for (const auto& [key, value] : combination.values) set_yaml(&tree, key, value, sweep.find(key)->where);
    combination.experiment = read(tree, stem, directory, &combination.where);
    const std::string beside = task_beside(root, combination, directory);
    if (!beside.empty()) combination.experiment.task = beside;
    if (!names.insert(combination.name).second) {
      throw Error(ExitCode::kConfig, sweep.where,
                  "sweep: two values give one directory (" + printable(combination.name) + ")");
    }
  }
  return combinations;
}

Error located(const Error& error, const Combination& combination) {
  const std::string text = error.what();
  std::string field = text.substr(0, text.find(": "));
  if (error.code() != ExitCode::kConfig || field.find(':') != std::string::npos) return error;
  for (;;) {
    const auto found = combination.where.find(field);
    if (found != combination.where.end()) return {error.code(), found->second, text, error.hint()};
    const size_t dot = field.rfind('.');
    if (dot == std::string::npos) return error;
    field.resize(dot);
  }
}

std::string resolve_path(const std::string& path, const std::string& directory) {
  const fs::path given(path);
  if (given.is_absolute()) return given.lexically_normal().string();
  const fs::path beside = fs::path(directory) / given;
  std::error_code ignored;
  if (!fs::exists(beside, ignored) && fs::exists(given, ignored)) {
    return fs::absolute(given).lexically_normal().string();
  }
  return fs::absolute(beside).lexically_normal().string();
}

namespace {

// Directories of task files, in the order in which they are looked into.
std::vector<fs::path> task_places(const std::string& directory) {
  std::vector<fs::path> places{fs::path(directory), fs::path(directory) / "tasks",
                               fs::path(directory).parent_path() / "tasks"};
  if (const char* extra = std::getenv("EEP_TASKS"); extra != nullptr) places.emplace_back(extra);
  places.emplace_back(fs::path("experiments") / "tasks");
  std::error_code ignored;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", ignored); !ignored) {
    const fs::path above = program.parent_path().parent_path();
    places.push_back(above / "experiments" / "tasks");
    places.push_back(above / "share" / "eep" / "tasks");
  }
  return places;
}

}  // namespace

// Of the directory itself only what lies in tasks/ counts: there may be any YAML.
std::map<std::string, std::string> known_tasks(const std::string& directory) {
  std::map<std::string, std::string> known;
  for (const fs::path& place : task_places(directory)) {
    if (place.filename() != "tasks") continue;
    std::error_code error;
    for (fs::directory_iterator entry(place, error), end; !error && entry != end; entry.increment(error)) {
      if (entry->path().extension() == ".yaml")
        known.emplace(entry->path().stem().string(), entry->path().string());
    }
  }
  return known;
}

std::string find_task(const std::string& name, const std::string& directory) {
  if (name.find('/') != std::string::npos || name.ends_with(".yaml") || name.ends_with(".yml")) {
    const std::string path = resolve_path(name, directory);
    if (!file_exists(path)) throw Error(ExitCode::kNoInput, path, "no such task file");
    return path;
  }
  std::string looked;
  for (const fs::path& place : task_places(directory)) {
    const std::string path = fs::absolute(place / (name + ".yaml")).lexically_normal().string();
    if (file_exists(path)) return path;
    looked += (looked.empty() ? "" : ", ") + place.lexically_normal().string();
  }
  throw Error(ExitCode::kNoInput, "task " + printable(name),
              "no " + printable(name) + ".yaml (looked in " + looked + ")");
}

}  // namespace eep
