// A small experiment on the demo's model, and what no interruption and no number of ranks may change of it.
#pragma once

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

namespace eep::test {

inline std::string small_run(const TempDir& directory, const std::string& more = "",
                             const std::string& task = "sort") {
  return directory.write("small.yaml", "name: small\nmodel: {path: " + kDemoModel +
                                           "}\ntask: {name: " + task +
                                           R"(, train: {limit: 12}, dev: {limit: 12}, test: {limit: 20}}
plan: {experts: 4, groups: 2}
search:
  population: 5
  dev_count: 3
  prune: {evaluations: 14, initial: 8}
  merge: {evaluations: 18}
baselines: [full, random, frequency, reap, naee]
random_draws: 3
)" + more);
}

inline RunLimits on_ranks(int count) {
  RunLimits limits;
  limits.launcher = {"mpirun", "--oversubscribe",    "--allow-run-as-root", "--bind-to", "none",
                     "-n",     std::to_string(count)};
  return limits;
}

// Files of a run by name, with their bytes, those apart that hold times and places; of result.json the
// scores.
inline std::string run_bytes(const std::string& run) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run)) {
    const std::string name = std::filesystem::relative(entry.path(), run).string();
    const bool timed =
        name.find("metrics.jsonl") != std::string::npos || name.starts_with("checkpoints") ||
        name.find("/checkpoints") != std::string::npos || name.find("manifest") != std::string::npos ||
        name.find("log.txt") != std::string::npos || name.find("result.json") != std::string::npos ||
        name == "table.txt" || name.find("figures/") != std::string::npos ||
        name.find("card.md") != std::string::npos || name.find("report.html") != std::string::npos ||
        name == "summary.json" || name == ".lock" || name.find("config.resolved") != std::string::npos;
    if (entry.is_regular_file() && !timed) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  std::string text;
  for (const std::string& name : names) text += name + "\n" + slurp(run + "/" + name) + "\n";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run)) {
    if (entry.path().filename() != "result.json") continue;
    const Json result = parse_json(slurp(entry.path().string()), "result.json");
    for (const Json& method : result.at("methods")) {
      for (const char* key : {"name", "train", "dev", "test", "evaluations", "plan"})
        text += method.at(key).dump();
    }
    text += "\n";
  }
  return text;
}

// The calibrations that a run keeps, without what they took.
inline std::string calibrations(const std::string& run) {
  std::vector<std::string> kept;
  for (const auto& entry : std::filesystem::directory_iterator(run + "/checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("calibration-")) continue;
    Json json = parse_json(slurp(entry.path().string()), name);
    json.erase("seconds");
    kept.push_back(name + json.dump());
  }
  REQUIRE(!kept.empty());
  std::sort(kept.begin(), kept.end());
  return std::accumulate(kept.begin(), kept.end(), std::string());
}

inline int64_t microseconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start)
      .count();
}

}  // namespace eep::test
