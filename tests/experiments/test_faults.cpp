// Disks that fail, one call after the other: a clear line, no damaged file, and a run that goes on.
#include <doctest/doctest.h>

#include <sstream>

#include "loaders/formats/json.h"
#include "tests/experiments/small_run.h"

using namespace eep;
using namespace eep::test;

#ifdef EEP_FAULT_LIBRARY

namespace {

std::string tiny_run(const TempDir& directory) {
  return directory.write("tiny.yaml",
                         "name: tiny\nmodel: {path: " + kDemoModel + "}\n" +
                             R"(task: {name: sort, train: {limit: 4}, dev: {limit: 4}, test: {limit: 4}}
plan: {experts: 4, groups: 1}
search: {population: 4, dev_count: 2, prune: {evaluations: 6, initial: 4}, merge: {evaluations: 4}}
baselines: [full, reap]
export: {format: hf}
)");
}

// Every file of a run that can be read as what it is.
void check_files(const std::string& run) {
  if (!std::filesystem::exists(run)) return;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run)) {
    const std::string path = entry.path().string();
    if (!entry.is_regular_file()) continue;
    CAPTURE(path);
    if (path.ends_with(".json")) CHECK_NOTHROW(parse_json(slurp(path), path));
    if (path.ends_with("samples.jsonl")) {
      std::istringstream lines(slurp(path));
      for (std::string line; std::getline(lines, line);) CHECK_NOTHROW(parse_json(line, path));
    }
  }
}

}  // namespace

TEST_CASE("faults: whichever write fails, the line says so, files are whole, and the same command goes on") {
  TempDir directory;
  const std::string file = tiny_run(directory), whole = directory("whole"), run = directory("run");
  REQUIRE(eep::test::eep({"run", file, "--output", whole}).code == 0);
  const std::string expected = run_bytes(whole);
  const std::vector<std::string> command{"run", file, "--output", run, "--resume-if-there"};
  const std::vector<std::string> kinds{"EIO", "ENOSPC", "EDQUOT", "short"};
  int failed = 0;
  for (int call = 1;; ++call) {
    const std::string kind = kinds[static_cast<size_t>(call) % kinds.size()];
    CAPTURE(kind);
    CAPTURE(call);
    std::filesystem::remove_all(run);
    const std::string log = directory("log");
    std::filesystem::remove(log);
    RunLimits limits;
    limits.variables = {{"LD_PRELOAD", EEP_FAULT_LIBRARY},
                        {"EEP_FAULT", kind + ":" + std::to_string(call)},
                        {"EEP_FAULT_LOG", log}};
    const Outcome outcome = eep::test::eep(command, limits);
    if (!std::filesystem::exists(log)) {  // fewer calls than that
      CHECK(outcome.code == 0);
      CHECK(call > 40);
      break;
    }
    CAPTURE(slurp(log));
    CAPTURE(outcome.err);
    if (kind == "short") CHECK(outcome.code == 0);
    if (outcome.code != 0) {
      CHECK(outcome.code == 74);
      CHECK(outcome.err.find("eep: error: ") != std::string::npos);
      const bool reason = outcome.err.find("Input/output error") != std::string::npos ||
                          outcome.err.find("No space left on device") != std::string::npos ||
                          outcome.err.find("Disk quota exceeded") != std::string::npos;
      CHECK(reason);
      ++failed;
    }
    check_files(run);
    const Outcome again = eep::test::eep(command);
    CAPTURE(again.err);
    REQUIRE(again.code == 0);
    CHECK(run_bytes(run) == expected);
  }
  CHECK(failed > 30);
}

#endif  // EEP_FAULT_LIBRARY
