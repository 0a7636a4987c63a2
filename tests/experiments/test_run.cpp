// The main job from outside: its files, and that neither kills, threads, memory nor instruction sets change a
// byte of the archive.
#include <doctest/doctest.h>

#include <chrono>

#include "kernels/cpu/cpu_target.h"
#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

std::string small_experiment(const TempDir& directory, const std::string& more = "") {
  return directory.write("e.yaml",
                         "name: small\nmodel: {path: " + kDemoModel + "}\n" +
                             R"(task: {name: sort, train: {limit: 12}, dev: {limit: 12}, test: {limit: 20}}
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

// What an interruption must not change: the archive, the plans, and the scores of every method.
std::string essence(const std::string& run) {
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  std::string text =
      slurp(run + "/archive.jsonl") + slurp(run + "/plan.json") + slurp(run + "/plan.prune.json");
  for (const Json& method : result.at("methods")) {
    text += method.at("name").dump() + method.at("train").dump() + method.at("dev").dump() +
            method.at("test").dump() + "\n";
  }
  return text;
}

}  // namespace

TEST_CASE("run: parity hf is another run over the same checkpoint") {
  TempDir directory;
  const std::string sweep = directory("sweep"), single = directory("single");
  const std::string file = small_experiment(directory);
  CHECK(eep::test::eep({"run", file, "--set", "sweep.model.parity=[none, hf]", "--output", sweep}).code == 0);
  const std::string none = sweep + "/model.parity=none", hf = sweep + "/model.parity=hf";
  CHECK(slurp(none + "/archive.jsonl") != slurp(hf + "/archive.jsonl"));

  // Nothing that the combinations share, calibration above all, is the other mode's.
  CHECK(eep::test::eep({"run", file, "--parity", "hf", "--output", single}).code == 0);
  CHECK(essence(single) == essence(hf));
  const Outcome other = eep::test::eep({"run", "--resume", single, "--parity", "none"});
  CHECK(other.code == 78);
  CHECK(other.err.find("parity: hf, got parity: none") != std::string::npos);

  const Outcome exported = eep::test::eep({"export", kDemoModel, "--plan", hf + "/plan.json", "--format",
                                           "native", "--out", directory("smaller")});
  CAPTURE(exported.err);
  CHECK(exported.code == 0);
}

TEST_CASE("run: precision bf16 is another run over the same checkpoint, the same on every instruction set") {
  TempDir directory;
  const std::string file = small_experiment(directory), first = directory("first");
  const Outcome outcome = eep::test::eep({"run", file, "--precision", "bf16", "--output", first});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(parse_json(slurp(first + "/result.json"), "result.json").at("precision") == "bf16");
  CHECK(parse_json(slurp(first + "/manifest.json"), "manifest.json").at("precision") == "bf16");
  CHECK(slurp(first + "/config.resolved.yaml").find("precision: bf16") != std::string::npos);
  int number = 0;
  for (const std::string& target : cpu_targets()) {
    CAPTURE(target);
    const std::string run = directory("v" + std::to_string(number++));
    REQUIRE(eep::test::eep({"run", file, "--set", "model.precision=bf16", "--cpu-target", target, "--threads",
                            "1", "--output", run})
                .code == 0);
    CHECK(essence(run) == essence(first));
  }

  const std::string exact = directory("exact");
  REQUIRE(eep::test::eep({"run", file, "--precision", "f32", "--output", exact}).code == 0);
  CHECK(parse_json(slurp(exact + "/result.json"), "result.json").at("precision") == "f32");
  CHECK(slurp(exact + "/config.resolved.yaml").find("precision") == std::string::npos);
  CHECK(slurp(exact + "/archive.jsonl") != slurp(first + "/archive.jsonl"));
  for (const auto& [run, other] : {std::pair(first, "f32"), std::pair(exact, "bf16")}) {
    const Outcome refused = eep::test::eep({"run", "--resume", run, "--precision", other});
    CAPTURE(refused.err);
    CHECK(refused.code == 78);
  }
  CHECK(eep::test::eep({"run", "--resume", first}).code == 0);
}

TEST_CASE("run: a run directory holds what the contract says") {
  TempDir directory;
  const std::string file = small_experiment(directory), run = directory("run");
  const Outcome outcome = eep::test::eep({"run", file, "--output", run});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out.ends_with(run + "\n"));
  for (const char* name :
       {"config.resolved.yaml", "manifest.json", "metrics.jsonl", "archive.jsonl", "checkpoints", "samples",
        "plan.prune.json", "plan.json", "result.json", "log.txt"}) {
    CAPTURE(name);
    CHECK(std::filesystem::exists(run + "/" + name));
  }
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  CHECK(result.at("format") == "eep-result");
  CHECK(result.at("precision") == "f32");
  std::vector<std::string> names;
  for (const Json& method : result.at("methods")) {
    names.push_back(method.at("name"));
    CHECK(method.at("test").at("n") == 20);
    CHECK(method.at("test").at("ci95")[0] <= method.at("test").at("score"));
    CHECK(std::filesystem::exists(run + "/" + method.at("plan").get<std::string>()));
  }
  CHECK(names ==
        std::vector<std::string>{"full", "random", "frequency", "reap", "naee", "eep_prune", "eep_merge"});
  CHECK(result.at("search").at("evaluations") == 32);
  CHECK(result.at("search").at("tokens") < result.at("search").at("tokens_without_sharing"));
  std::istringstream lines(slurp(run + "/archive.jsonl"));
  int64_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json entry = parse_json(line, "archive.jsonl");
    CHECK(entry.at("evaluation") == count);
    CHECK(entry.at("phase") == (count < 14 ? "prune" : "merge"));
    for (const char* key : {"generation", "origin", "hash", "fitness", "tiebreak", "n", "cached"})
      CHECK(entry.contains(key));
  }
  CHECK(count == 32);
  // The resolved file is an experiment again, and gives the same run.
  CHECK(eep::test::eep({"run", run + "/config.resolved.yaml", "--output", directory("again")}).code == 0);
  CHECK(essence(directory("again")) == essence(run));
  // A plan can be scored on its own, and scores what the table says.
  const Outcome eval = eep::test::eep(
      {"eval", kDemoModel, "--task", "sort", "--limit", "20", "--plan", run + "/plan.json", "--json"});
  CHECK(parse_json(eval.out, "eval").at("score") == result.at("methods")[6].at("test").at("score"));
}

TEST_CASE("run: threads, memory limits and instruction sets give the same bytes") {
  TempDir directory;
  const std::string file = small_experiment(directory);
  REQUIRE(eep::test::eep({"run", file, "--output", directory("first"), "--threads", "1"}).code == 0);
  const std::string expected = essence(directory("first"));
  std::vector<std::vector<std::string>> variants{{"--threads", "2"}, {"--threads", "3"}, {"--memory", "12M"}};
  for (const std::string& target : cpu_targets()) variants.push_back({"--cpu-target", target});
  int number = 0;
  for (const auto& variant : variants) {
    CAPTURE(variant[0]);
    CAPTURE(variant[1]);
    const std::string run = directory("v" + std::to_string(number++));
    std::vector<std::string> arguments{"run", file, "--output", run};
    arguments.insert(arguments.end(), variant.begin(), variant.end());
    const Outcome outcome = eep::test::eep(arguments);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(essence(run) == expected);
  }
}

TEST_CASE("run: killed at any moment, it resumes to the same bytes") {
  TempDir directory;
  const std::string file = small_experiment(directory);
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(eep::test::eep({"run", file, "--output", directory("whole")}).code == 0);
  const int64_t whole =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start).count();
  const std::string expected = essence(directory("whole"));
  const std::string run = directory("killed");
  int killed = 0;
  for (int moment = 1; moment <= 20; ++moment) {
    CAPTURE(moment);
    std::filesystem::remove_all(run);
    RunLimits limits;
    limits.signal = SIGKILL;
    limits.microseconds = whole * moment / 20;
    const Outcome first = eep::test::eep({"run", file, "--output", run}, limits);
    if (first.code == -SIGKILL) {
      ++killed;
      const bool begun = std::filesystem::exists(run + "/config.resolved.yaml");
      const Outcome second = begun ? eep::test::eep({"run", file, "--resume", run})
                                   : eep::test::eep({"run", file, "--output", run});
      CAPTURE(second.err);
      REQUIRE(second.code == 0);
    }
    CHECK(essence(run) == expected);
  }
  CHECK(killed >= 10);
}

TEST_CASE("run: a search on fresh items with controls, killed at any moment, resumes to the same bytes") {
  TempDir directory;
  const std::string file = directory.write(
      "e.yaml",
      "name: fresh\nmodel: {path: " + kDemoModel + "}\n" +
          R"(task: {name: sense_two, train: {limit: 64, shard: 8}, dev: {limit: 12}, test: {limit: 20}}
plan: {experts: 4, groups: 2}
search:
  population: 5
  prune: {evaluations: 10, initial: 8}
  merge: {algorithm: rsgn, evaluations: 30, rsgn: {directions: 9}}
baselines: [full, frequency]
controls: [prune_only, random, eep]
)");
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(eep::test::eep({"run", file, "--output", directory("whole")}).code == 0);
  const int64_t whole =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start).count();
  const std::string expected = essence(directory("whole"));
  const auto lines = [&](const std::string& name) { return slurp(directory("whole") + "/" + name); };
  const std::string archive = lines("archive.jsonl");
  CHECK(archive.find("\"n\": 32, \"cached\"") != std::string::npos);     // four shards are fixed
  CHECK(archive.find("\"n\": 8, \"shard\": 0, ") != std::string::npos);  // the first fresh ones
  // A control shares the prune phase, and spends the same number of evaluations.
  const std::string control = lines("controls/eep/archive.jsonl");
  size_t ten = 0;
  for (int line = 0; line < 10; ++line) ten = archive.find('\n', ten) + 1;
  CHECK(control.substr(0, ten) == archive.substr(0, ten));
  for (const char* name : {"eep", "random", "prune_only"}) {
    const std::string text = lines(std::string("controls/") + name + "/archive.jsonl");
    CHECK(std::count(text.begin(), text.end(), '\n') == 40);
  }
  const Json result = parse_json(lines("result.json"), "result.json");
  std::vector<std::string> names;
  for (const Json& method : result.at("methods")) {
    names.push_back(method.at("name"));
    const bool searched = names.back().starts_with("control_") || names.back() == "eep_merge";
    CHECK(method.at("test").contains("p_vs_prune") == searched);
  }
  CHECK(names == std::vector<std::string>{"full", "frequency", "control_prune_only", "control_random",
                                          "control_eep", "eep_prune", "eep_merge"});
  const std::string run = directory("killed");
  for (int moment = 1; moment <= 8; ++moment) {
    CAPTURE(moment);
    std::filesystem::remove_all(run);
    RunLimits limits;
    limits.signal = SIGKILL;
    limits.microseconds = whole * moment / 8;
    const Outcome first = eep::test::eep({"run", file, "--output", run}, limits);
    if (first.code == -SIGKILL) {
      const bool begun = std::filesystem::exists(run + "/config.resolved.yaml");
      const Outcome second = begun ? eep::test::eep({"run", file, "--resume", run})
                                   : eep::test::eep({"run", file, "--output", run});
      CAPTURE(second.err);
      REQUIRE(second.code == 0);
    }
    CHECK(essence(run) == expected);
  }
}

TEST_CASE("run: an interrupt checkpoints, exits 130 and resumes; a finished run is not run again") {
  TempDir directory;
  const std::string file = small_experiment(directory);
  REQUIRE(eep::test::eep({"run", file, "--output", directory("whole")}).code == 0);
  const std::string run = directory("stopped");
  RunLimits limits;
  limits.signal = SIGINT;
  int code = 0;
  for (int64_t microseconds = 20000; microseconds < 4000000; microseconds = microseconds * 3 / 2) {
    std::filesystem::remove_all(run);
    limits.microseconds = microseconds;
    code = eep::test::eep({"run", file, "--output", run}, limits).code;
    if (code == 130 && std::filesystem::exists(run + "/config.resolved.yaml")) break;  // begun
  }
  REQUIRE(code == 130);
  const Outcome resumed = eep::test::eep({"run", file, "--resume", run});
  CAPTURE(resumed.err);
  CHECK(resumed.code == 0);
  CHECK(essence(run) == essence(directory("whole")));
  CHECK(eep::test::eep({"run", file, "--resume", run}).out == resumed.out);
  CHECK(eep::test::eep({"run", file, "--output", run}).code == 1);  // a run is here already
  const Outcome changed = eep::test::eep({"run", file, "--resume", run, "--set", "search.merge.sigma=0.1"});
  CHECK(changed.code == 78);
  CHECK(changed.err.find("the configuration has changed (expected sigma: 0.065, got sigma: 0.1)") !=
        std::string::npos);
}

TEST_CASE("run: a sweep is one directory a combination, one table, resumable") {
  TempDir directory;
  const std::string file = small_experiment(directory, "sweep: {task.name: [sort, cause], seed: [1, 2]}\n");
  const std::string run = directory("sweep");
  const Outcome outcome = eep::test::eep({"run", file, "--output", run});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::string one = run + "/task.name=sort,seed=2";
  for (const char* name :
       {"config.resolved.yaml", "manifest.json", "archive.jsonl", "result.json", "plan.json"}) {
    CHECK(std::filesystem::exists(one + "/" + name));
  }
  CHECK(parse_json(slurp(run + "/summary.json"), "summary.json").at("runs").size() == 4);
  CHECK(slurp(run + "/table.txt").find("over seeds") != std::string::npos);
  const std::string before = slurp(one + "/archive.jsonl");
  std::filesystem::remove(one + "/result.json");
  CHECK(eep::test::eep({"run", file, "--resume", run}).code == 0);
  CHECK(slurp(one + "/archive.jsonl") == before);
}

TEST_CASE("run: a dry run says what would be done and does nothing") {
  TempDir directory;
  const Outcome outcome =
      eep::test::eep({"run", small_experiment(directory), "--dry-run", "--output", directory("none")});
  CHECK(outcome.code == 0);
  CHECK(outcome.out.find("32 evaluations") != std::string::npos);
  CHECK(outcome.out.find("memory (cpu): ") != std::string::npos);
  CHECK(!std::filesystem::exists(directory("none")));
  const Outcome budget = eep::test::eep(
      {"run", small_experiment(directory), "--set", "plan.experts=9", "--output", directory("none")});
  CHECK(budget.code == 78);
  CHECK(budget.err.find("expected 1..8, got 9") != std::string::npos);
}

TEST_CASE("run: keeping every expert runs the merge phase alone; fewer active experts have their own row") {
  TempDir directory;
  const Outcome outcome = eep::test::eep({"run", small_experiment(directory), "--set", "plan.experts=8",
                                          "--set", "plan.top_k=1", "--output", directory("all")});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  std::vector<std::string> names;
  const Json result = parse_json(slurp(directory("all") + "/result.json"), "result.json");
  for (const Json& method : result.at("methods")) names.push_back(method.at("name"));
  CHECK(names == std::vector<std::string>{"full", "full_top1", "eep_merge"});
}

TEST_CASE("run: the demo's archive is the published one") {
  // sha256 of archive.jsonl of task letter, 4 of 8 experts, by the paper's algorithm; equal on every machine
  // (docs/architecture.md, promise 1).
  const std::string published = "922b8d98dfe07640b93da1da55e8e238ec6a29d4f40b6d918812c27fcb6f77ce";
  TempDir directory;
  const Outcome outcome =
      eep::test::eep({"run", kSource + "/experiments/demo/demo.yaml", "--set",
                      "sweep={task.name: [letter], plan.experts: [4]}", "--output", directory("demo")});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::string archive =
      directory("demo") + "/task.name=letter,plan.experts=4/controls/eep/archive.jsonl";
  REQUIRE(std::filesystem::exists(archive));
  const std::string listing = directory("sum");
  REQUIRE(std::system(("sha256sum '" + archive + "' > '" + listing + "'").c_str()) == 0);
  CHECK(slurp(listing).substr(0, published.size()) == published);
}
