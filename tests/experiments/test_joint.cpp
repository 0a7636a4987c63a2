// Kept counts that vary by layer, and searches that start from a plan.
#include <doctest/doctest.h>

#include "experiments/study/experiment.h"
#include "kernels/common/error.h"
#include "loaders/formats/json.h"
#include "loaders/models/plan_io.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

std::string experiment(const TempDir& directory, const std::string& experts, const std::string& search) {
  return directory.write("e.yaml",
                         "name: joint\nmodel: {path: " + kDemoModel + "}\n" +
                             R"(task: {name: sort, train: {limit: 12}, dev: {limit: 12}, test: {limit: 20}}
plan: {experts: )" + experts +
                             R"(, groups: per_layer}
search:
  population: 5
  dev_count: 3
  )" + search + R"(
baselines: [full, random, frequency, reap, naee]
random_draws: 3
)");
}

Experiment parse(const std::string& experts) {
  return parse_experiment("model: {path: m}\ntask: {name: sort}\nplan: {experts: " + experts + "}\n",
                          "e.yaml", ".");
}

std::string refusal(const std::string& experts) {
  try {
    parse(experts);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kConfig);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("experiment: kept experts are a number, or a total with bounds of a layer") {
  CHECK(parse("4").experts == 4);
  CHECK(parse("4").counts == Experiment::Counts{});
  CHECK(parse("{total: 16}").counts == Experiment::Counts{16, 1, 0});
  CHECK(parse("{total: 16, min: 2, max: 6}").counts == Experiment::Counts{16, 2, 6});
  CHECK(refusal("{min: 2}").find("plan.experts.total is missing") != std::string::npos);
  CHECK(refusal("{total: 0}").find("plan.experts.total") != std::string::npos);
  CHECK(refusal("{total: 16, min: 4, max: 3}").find("plan.experts.max") != std::string::npos);
  CHECK(refusal("{total: 16, least: 4}").find("least") != std::string::npos);
  CHECK(refusal("[4]").find("plan.experts") != std::string::npos);
}

TEST_CASE("run: kept counts a layer under a total") {
  TempDir directory;
  const std::string file =
      experiment(directory, "{total: 18, min: 2, max: 7}",
                 "prune: {algorithm: level_switch, evaluations: 40, level_switch: {initial: 3}}\n"
                 "  merge: {algorithm: snes, evaluations: 30}");
  const std::string run = directory("run");
  const Outcome outcome = eep::test::eep({"run", file, "--output", run});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  for (const char* name : {"plan.prune.json", "plan.json", "plans/frequency.json", "plans/naee.json"}) {
    CAPTURE(name);
    int32_t total = 0;
    for (const PlanGroup& group : read_plan(run + "/" + name).groups) {
      CHECK(group.kept >= 2);
      CHECK(group.kept <= 7);
      total += group.kept;
    }
    CHECK(total == 18);
  }
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  const auto method = [&](const std::string& name) -> Json {
    for (const Json& each : result.at("methods")) {
      if (each.at("name") == name) return each;
    }
    return {};
  };
  CHECK(method("full").at("experts") == 8);
  CHECK(!method("full").contains("experts_per_layer"));
  CHECK(method("frequency").at("experts_per_layer") == Json{5, 5, 4, 4});
  CHECK(method("eep_prune").at("experts") == 4);
  // Where counts differ, what a layer keeps does not change what all keep.
  CHECK(method("eep_prune").at("parameters") == method("frequency").at("parameters"));
  CHECK(method("eep_prune").at("parameters") < method("full").at("parameters"));
  // The resolved file is the same experiment.
  CHECK(eep::test::eep({"run", run + "/config.resolved.yaml", "--output", directory("again")}).code == 0);
  CHECK(slurp(directory("again") + "/archive.jsonl") == slurp(run + "/archive.jsonl"));

  const auto refused = [&](const std::string& set) {
    const Outcome other = eep::test::eep({"run", file, "--set", set, "--output", directory("none")});
    CHECK(other.code == 78);
    return other.err;
  };
  CHECK(refused("search.prune.algorithm=eep").find("expected genetic or level_switch, got eep") !=
        std::string::npos);
  CHECK(refused("plan.experts.total=7").find("expected 8 or more, got 7") != std::string::npos);
  CHECK(refused("plan.experts.max=9").find("expected 1..8, got 9") != std::string::npos);
}

TEST_CASE("run: several objectives end in one plan a size") {
  TempDir directory;
  const std::string file =
      experiment(directory, "{total: 20, min: 1}, top_k: {min: 1, max: 2}",
                 "objectives: [score, parameters, active]\n"
                 "  prune: {algorithm: genetic, evaluations: 120}\n  merge: {evaluations: 0}");
  const std::string run = directory("run");
  const Outcome outcome = eep::test::eep({"run", file, "--output", run});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  const Json& front = result.at("pareto");
  REQUIRE(front.size() > 1);
  for (const Json& point : front) {
    const ExpertPlan plan = read_plan(run + "/" + point.at("plan").get<std::string>());
    int64_t total = 0;
    for (const PlanGroup& group : plan.groups) total += group.kept;
    CHECK(point.at("experts_total") == total);
    CHECK(total <= 20);
    CHECK(point.at("top_k") == plan.top_k);
    for (const Json& other : front) {
      const bool dominated = other.at("dev") > point.at("dev") &&  // ties: by log-likelihood
                             other.at("parameters") < point.at("parameters") &&
                             other.at("active_parameters") < point.at("active_parameters");
      CHECK(!dominated);
    }
  }
  CHECK(eep::test::eep({"run", run + "/config.resolved.yaml", "--output", directory("again")}).code == 0);
  CHECK(slurp(directory("again") + "/archive.jsonl") == slurp(run + "/archive.jsonl"));
  const Outcome fixed =
      eep::test::eep({"run", file, "--set", "plan.experts=4", "--output", directory("none")});
  CHECK(fixed.code == 78);
  CHECK(fixed.err.find("search.objectives: parameters do not vary") != std::string::npos);
}

TEST_CASE("run: a search starts from a given plan") {
  TempDir directory;
  const std::string file =
      experiment(directory, "4", "prune: {evaluations: 12, initial: 6}\n  merge: {evaluations: 10}");
  const std::string first = directory("first"), second = directory("second");
  REQUIRE(eep::test::eep({"run", file, "--output", first}).code == 0);
  // A merged plan opens the merge phase, a pruned one the prune phase.
  const auto origins = [&](const std::string& plan) {
    const Outcome outcome = eep::test::eep({"run", file, "--set", "search.start=" + plan, "--set",
                                            "search.warm_start=false", "--output", second});
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    std::vector<std::string> found;
    std::istringstream lines(slurp(second + "/archive.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const Json entry = parse_json(line, "archive.jsonl");
      if (entry.at("origin") == "start") found.push_back(entry.at("phase"));
    }
    // The path is absolute in the resolved file.
    CHECK(slurp(second + "/config.resolved.yaml").find("start: \"" + plan) != std::string::npos);
    std::filesystem::remove_all(second);
    return found;
  };
  CHECK(origins(first + "/plans/reap.json") == std::vector<std::string>{"prune"});
  PlanInfo info;
  ExpertPlan merged = read_plan(first + "/plans/reap.json", &info);
  merged.groups[0].expert_merging[3] += 0.25f;
  write_plan(directory("merged.json"), merged, info);
  CHECK(origins(directory("merged.json")) == std::vector<std::string>{"merge"});
  const auto code = [&](const std::string& plan) {
    return eep::test::eep({"run", file, "--set", "search.start=" + plan, "--output", second}).code;
  };
  CHECK(code(directory("nothing.json")) == 66);
  CHECK(code(first + "/plans/full.json") == 78);  // eight experts a layer
  CHECK(code(directory.write("p.json", "{}")) == 65);
}
