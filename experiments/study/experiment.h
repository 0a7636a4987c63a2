// The experiment file: model, task, plan, search, baselines, sweep. Strict; every default is stated here or
// in the types of es/ that it holds (es/search_config.h), and nowhere else.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "es/search_config.h"
#include "loaders/formats/yaml.h"

namespace eep {

struct SplitUse {
  std::string split;
  int64_t limit = 0;  // items, 0: all

  bool operator==(const SplitUse&) const = default;
};

// One of several tasks of a search.
struct TaskUse {
  std::string name;   // name, or path of a task file
  double weight = 1;  // in the fitness; 0: none, the task is scored at the end alone
  double guard =
      -1;            // a plan may lose so many points of the full model's score; below 0: as many as it likes
  std::string test;  // the split of the final scores, "": the experiment's

  bool operator==(const TaskUse&) const = default;
};

struct Experiment {
  std::string name = "experiment";

  std::string model_path;
  std::string model_dtype = "auto";     // else a checkpoint of another one is refused
  std::string model_parity = "none";    // hf, eep: rounds where other code does (engine/config.h)
  std::string model_precision = "f32";  // bf16: products of bf16 on the CPU (kernels/gemm_bf16.h)

  std::string task;  // name, or path of a task file
  std::string protocol = "harness";
  SplitUse train{"train", 0}, dev{"dev", 0}, test{"test", 0};
  bool allow_overlap = false;  // items that two splits have in common are a warning

  std::vector<TaskUse> tasks;         // empty: `task` alone, else `task` is one of them
  std::string fitness_over = "mean";  // or min

  int64_t experts = 0;  // kept in every layer; 0: `counts` has them
  struct Counts {
    int64_t total = 0;            // over all layers; 0: every layer keeps `experts`
    int64_t least = 1, most = 0;  // of a layer; most 0: all

    bool operator==(const Counts&) const = default;
  } counts;
  int64_t top_k = 0;         // 0: the model's
  int64_t top_k_least = 0;   // where it is searched too, from this to top_k; 0: it is not
  std::string groups = "4";  // a number, or per_layer
  std::string router_space = "logits";

  SearchConfig search;  // its seed is that of everything
  int64_t dev_count = 20;
  bool warm_start = true;
  std::string start;  // a plan file that the search starts from, or ""

  std::vector<std::string> baselines{"full", "random", "frequency", "soft_activation", "ean", "reap", "naee"};
  int64_t random_draws = 30;
  // Searches beside the main one, at its number of evaluations: prune_only, random, eep (the paper's
  // merging).
  std::vector<std::string> controls;

  int64_t calibration_limit = 0;  // train items, 0: all that the search uses
  int64_t subset_tokens = 2048;   // tokens for reconstruction errors (NAEE)
  int64_t sampled_subsets = 500;  // where there are more than 10,000 subsets

  std::string export_format = "none";

  // Dotted key and its values as YAML text; empty: one run.
  std::vector<std::pair<std::string, std::vector<std::string>>> sweep;

  std::string directory;  // relative paths start there: paths_from, or that of the file

  bool operator==(const Experiment&) const = default;
};

// Fields that name a file.
bool names_path(std::string_view key);

// "a.b=c" as --set takes it.
using Overrides = std::vector<std::string>;

// Throws Error(kConfig, or kNoInput for a missing file).
Experiment load_experiment(const std::string& path, const Overrides& overrides = {});
Experiment parse_experiment(const std::string& text, const std::string& where, const std::string& directory,
                            const Overrides& overrides = {});

// Every field, defaults included, with absolute paths; reads back as the same experiment. Without the sweep.
std::string resolved_yaml(const Experiment& experiment);

// One combination of the sweep: `<key>=<value>,...` (a directory's name: / becomes _) and the experiment it
// stands for (no sweep of its own).
struct Combination {
  std::string name;
  std::vector<std::pair<std::string, std::string>> values;
  Experiment experiment;
  std::map<std::string, std::string> where;  // of every field (plan.experts): file:line:column, or --set
};
// In the order of the file, the last key fastest. One unnamed combination without a sweep. A swept task name
// is also looked for beside the file that task.name names. An override of a swept field takes the place of
// its list, which a line of `notes` says; a value in the file beside a sweep that does not have it is
// refused.
std::vector<Combination> expand_sweep(const std::string& path, const Overrides& overrides = {},
                                      std::vector<std::string>* notes = nullptr);

// An error that names a field of the experiment (`plan.experts: more than the model has`) with the field's
// place in the file in front, or that of the section which lacks it; any other as it is.
Error located(const Error& error, const Combination& combination);

// JSON Schema (draft 2020-12) of the file.
std::string experiment_schema();

// The file of a task: a path relative to `directory`, or NAME.yaml in it, in tasks/ beside or above it, in
// $EEP_TASKS, in experiments/tasks of the working directory or of the source tree that the program lies in,
// or in the share directory of its installation. Throws Error(kNoInput) listing the places.
std::string find_task(const std::string& name, const std::string& directory);
// Names that find_task knows from there, sorted, with their files.
std::map<std::string, std::string> known_tasks(const std::string& directory);
// A path relative to `directory` if it exists there, else to the working directory; absolute.
std::string resolve_path(const std::string& path, const std::string& directory);

}  // namespace eep
