#include "experiments/study/run_report.h"

#include "experiments/study/methods.h"
#include "experiments/study/seeds.h"
#include "loaders/formats/file.h"

namespace eep {

std::string combination_label(const Combination& combination, bool with_seed) {
  std::string text;
  for (const auto& [key, value] : combination.values) {
    if (key == "task.name" || key == "plan.experts" || (key == "seed" && !with_seed)) continue;
    text += (text.empty() ? "" : ",") + key + "=" + value;
  }
  return text;
}

namespace {

// Of those that change the full model or what it is asked.
std::string label_of_full(const Combination& combination) {
  Combination changes = combination;
  std::erase_if(changes.values, [](const auto& value) {
    return !value.first.starts_with("model.") && !value.first.starts_with("task.");
  });
  return combination_label(changes, false);
}

}  // namespace

bool is_sweep(const std::vector<Combination>& combinations) {
  return combinations.size() > 1 || !combinations[0].name.empty();
}

Json read_result(const std::string& file) {
  const JsonDocument document = JsonDocument::read(file);
  const JsonView root = document.root().as_object();
  if (root.at("format").as_string() != "eep-result") root.at("format").fail_expected("eep-result");
  if (root.has_value("version") && root.at("version").as_int(INT64_MIN, INT64_MAX) != kResultVersion)
    root.at("version").fail_expected(std::to_string(kResultVersion));
  root.at("task").at("name").as_string();
  root.at("seed").as_int(INT64_MIN, INT64_MAX);
  const JsonView methods = root.at("methods").as_array();
  for (size_t i = 0; i < methods.size(); ++i) {
    const JsonView method = methods.at(i);
    method.at("name").as_string();
    for (const char* key : {"experts", "parameters", "evaluations", "seconds"}) method.at(key).as_number();
    if (!method.at("test").is_null()) {
      method.at("test").at("score").as_number();
      const JsonView interval = method.at("test").at("ci95").as_array();
      for (size_t end : {0u, 1u}) interval.at(end).as_number();
      if (!method.at("test").at("p_vs_full").is_null()) method.at("test").at("p_vs_full").as_number();
    }
  }
  return root.value();
}

std::string write_report(const RunDirectory& directory, const std::vector<Combination>& combinations,
                         const std::vector<Json>& results) {
  std::vector<RunRow> rows;
  bool several_seeds = false;
  for (size_t i = 0; i < results.size(); ++i) {
    rows.push_back({results[i], combination_label(combinations[i], true),
                    combination_label(combinations[i], false), directory.file(combinations[i].name),
                    label_of_full(combinations[i])});
    several_seeds |= combinations[i].experiment.search.seed != combinations[0].experiment.search.seed;
  }
  std::string table = result_table(rows);
  std::string shown;  // of a sweep the compact one
  if (is_sweep(combinations)) {
    const Json seeds = seeds_summary(rows);
    Json summary{{"format", "eep-summary"}, {"version", 1}, {"runs", Json::array()}, {"over_seeds", seeds}};
    for (size_t i = 0; i < results.size(); ++i)
      summary["runs"].push_back({{"directory", combinations[i].name}, {"result", results[i]}});
    write_file_atomic(directory.file("summary.json"), summary.dump(2) + "\n");
    if (several_seeds) table += "\nover seeds\n" + seeds_table(seeds);
    const std::string full = full_models_table(rows);
    shown = compact_table(seeds, combinations[0].experiment.search.merge.algorithm, !full.empty());
    if (!full.empty()) shown += "\n" + full;
  }
  write_file_atomic(directory.file("table.txt"), table);
  return is_sweep(combinations) ? shown : table;
}

}  // namespace eep
