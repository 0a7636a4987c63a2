// Reading experiment files: fields, overrides, sweeps, paths.
#include "loaders/experiment.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "loaders/experiment_fields.h"
#include "loaders/file.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

class Reader {
 public:
  explicit Reader(const YamlView& root) {
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
  void note(const char* name) { known_.back().push_back(name); }

  void text(const char* name, std::string& value, bool required) {
    note(name);
    if (required || views_.back().has(name)) {
      const YamlView at = views_.back().at(name);
      value = at.as_string();
      if (value.empty()) at.fail_expected("text");
    }
  }
  void choice(const char* name, std::string& value, const std::vector<std::string>& allowed) {
    note(name);
    if (views_.back().has(name)) value = views_.back().at(name).as_choice(allowed);
  }
  void integer(const char* name, int64_t& value, int64_t smallest, int64_t largest) {
    note(name);
    if (views_.back().has(name)) value = views_.back().at(name).as_int(smallest, largest);
  }
  void required_integer(const char* name, int64_t& value, int64_t smallest, int64_t largest) {
    note(name);
    value = views_.back().at(name).as_int(smallest, largest);
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

  void sweep(Experiment& e) {
    note("sweep");
    if (!views_.back().has("sweep")) return;
    const YamlView map = views_.back().at("sweep").as_map();
    for (const auto& [key, value] : map.value().entries) {
      const YamlView list = map.at(key);
      std::vector<std::string> values;
      for (const YamlView& item : list.sequence()) {
        if (!item.is_scalar()) item.fail_expected("a single value");
        const std::string text = item.as_string();
        if (text.empty() || text.find_first_of("/\\,\n=") != std::string::npos) {
          item.fail("a swept value names a directory (expected text without / , =, got " + text + ")");
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
  YamlValue empty_;
};

Experiment read(const YamlValue& root, const std::string& default_name, const std::string& directory) {
  Experiment e;
  e.name = default_name;
  e.directory = directory;
  Reader reader(YamlView(root, "", ExitCode::kConfig).as_map());
  visit_experiment(reader, e);
  reader.sweep(e);
  reader.finish();
  if (e.name.find_first_of("/\n") != std::string::npos) {
    throw Error(ExitCode::kConfig, root.where,
                "name: it names a directory (expected text without /, got " + e.name + ")");
  }
  return e;
}

YamlValue tree_of(const std::string& text, const std::string& where, const Overrides& overrides) {
  YamlValue root = parse_yaml(text, where);
  for (const std::string& override_text : overrides) {
    const size_t equals = override_text.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw Error(ExitCode::kUsage, "--set", "not of the form KEY=VALUE (got " + override_text + ")");
    }
    const std::string key = override_text.substr(0, equals);
    set_yaml(&root, key, override_text.substr(equals + 1), "--set " + key);
  }
  return root;
}

std::string directory_of(const std::string& path) {
  return fs::absolute(fs::path(path)).lexically_normal().parent_path().string();
}

}  // namespace

Experiment parse_experiment(const std::string& text, const std::string& where, const std::string& directory,
                            const Overrides& overrides) {
  return read(tree_of(text, where, overrides), "experiment", directory);
}

Experiment load_experiment(const std::string& path, const Overrides& overrides) {
  return read(tree_of(read_file(path), path, overrides), fs::path(path).stem().string(), directory_of(path));
}

std::vector<Combination> expand_sweep(const std::string& path, const Overrides& overrides) {
  YamlValue root = tree_of(read_file(path), path, overrides);
  const std::string stem = fs::path(path).stem().string(), directory = directory_of(path);
  // Swept keys need no value of their own; the first stands in while the sweep itself is read.
  YamlValue probe = root;
  const YamlValue* sweep = root.find("sweep");
  if (sweep != nullptr && sweep->kind == YamlValue::Kind::kMap) {
    for (const auto& [key, values] : sweep->entries) {
      if (values.kind == YamlValue::Kind::kSequence && !values.items.empty() &&
          values.items[0].kind == YamlValue::Kind::kScalar) {
        set_yaml(&probe, key, values.items[0].scalar, values.where);
      }
    }
  }
  const Experiment all = read(probe, stem, directory);
  std::vector<Combination> combinations(1);
  for (const auto& [key, values] : all.sweep) {
    std::vector<Combination> longer;
    for (const Combination& shorter : combinations) {
      for (const std::string& value : values) {
        Combination next = shorter;
        next.values.emplace_back(key, value);
        next.name += (next.name.empty() ? "" : ",") + key + "=" + value;
        longer.push_back(std::move(next));
      }
    }
    combinations = std::move(longer);
  }
  std::erase_if(root.entries, [](const auto& entry) { return entry.first == "sweep"; });
  root.key_where.clear();
  for (const auto& entry : root.entries) root.key_where.push_back(entry.second.where);
  for (Combination& combination : combinations) {
    YamlValue tree = root;
    for (const auto& [key, value] : combination.values) set_yaml(&tree, key, value, sweep->where);
    combination.experiment = read(tree, stem, directory);
  }
  return combinations;
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

std::string find_task(const std::string& name, const std::string& directory) {
  if (name.find('/') != std::string::npos || name.ends_with(".yaml") || name.ends_with(".yml")) {
    const std::string path = resolve_path(name, directory);
    if (!file_exists(path)) throw Error(ExitCode::kNoInput, path, "no such task file");
    return path;
  }
  std::vector<fs::path> places{fs::path(directory), fs::path(directory) / "tasks",
                               fs::path(directory).parent_path() / "tasks"};
  if (const char* extra = std::getenv("EEP_TASKS"); extra != nullptr) places.emplace_back(extra);
  places.emplace_back(fs::path("experiments") / "tasks");
#ifdef EEP_SOURCE_TASKS
  places.emplace_back(EEP_SOURCE_TASKS);
#endif
#ifdef EEP_SHARE
  places.emplace_back(fs::path(EEP_SHARE) / "tasks");
#endif
  std::string looked;
  for (const fs::path& place : places) {
    const std::string path = fs::absolute(place / (name + ".yaml")).lexically_normal().string();
    if (file_exists(path)) return path;
    looked += (looked.empty() ? "" : ", ") + place.lexically_normal().string();
  }
  throw Error(ExitCode::kNoInput, "task " + name, "no " + name + ".yaml (looked in " + looked + ")");
}

}  // namespace eep
