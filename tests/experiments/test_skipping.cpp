// The baselines dyn and naee_dyn from outside: in a run, as plan files, where they cannot go.
#include <doctest/doctest.h>

#include "loaders/formats/json.h"
#include "loaders/models/plan_io.h"
#include "tests/experiments/small_run.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("skipping: dyn and naee_dyn are methods of a run, their plans evaluate to the same score") {
  const TempDir directory;
  const std::string file = directory.write("e.yaml", "name: small\nmodel: {path: " + kDemoModel + "}\n" + R"(
task: {name: sort, train: {limit: 12}, dev: {limit: 12}, test: {limit: 20}}
plan: {experts: 4, top_k: 1, groups: 2}
search: {population: 4, prune: {evaluations: 4, initial: 4}, merge: {evaluations: 2}}
baselines: [full, naee, dyn, naee_dyn]
)");
  const std::string run = directory("run");
  const Outcome made = eep::test::eep({"run", file, "--output", run});
  CAPTURE(made.err);
  REQUIRE(made.code == 0);
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  int found = 0;
  for (const Json& method : result.at("methods")) {
    const std::string name = method.at("name").get<std::string>();
    if (name != "dyn" && name != "naee_dyn") {
      CHECK_FALSE(method.contains("active_experts"));
      continue;
    }
    ++found;
    CHECK(method.at("experts") == (name == "dyn" ? 8 : 4));
    CHECK(method.at("top_k") == 2);
    const double active = method.at("active_experts").get<double>();
    CHECK(active >= 1.5);
    CHECK(active < 1.6);
    const std::string plan = run + "/plans/" + name + ".json";
    CHECK(skips_experts(read_plan(plan)));
    const Outcome scored =
        eep::test::eep({"eval", kDemoModel, "--task", "sort", "--limit", "20", "--plan", plan, "--json"});
    REQUIRE(scored.code == 0);
    CHECK(parse_json(scored.out, "eval").at("score") == method.at("test").at("score"));
  }
  CHECK(found == 2);

  // A stock checkpoint cannot skip; eep's own layout keeps the thresholds. A search does not start there.
  const std::string plan = run + "/plans/naee_dyn.json";
  const Outcome stock = eep::test::eep({"export", kDemoModel, "--plan", plan, "--out", directory("hf")});
  CHECK(stock.code == 65);
  CHECK(stock.err.find("skips experts token by token") != std::string::npos);
  REQUIRE(
      eep::test::eep({"export", kDemoModel, "--plan", plan, "--format", "native", "--out", directory("own")})
          .code == 0);
  CHECK(skips_experts(read_plan(directory("own") + "/plan.json")));
  const Outcome start = eep::test::eep({"run", file, "--dry-run", "--set", "search.start=" + plan});
  CHECK(start.code == 78);
  CHECK(start.err.find("which a search does not") != std::string::npos);
}

#ifdef EEP_HAVE_MPI

TEST_CASE("skipping: thresholds measured over ranks and stages are those of one process") {
  const TempDir directory;
  const std::string file = small_run(directory, "sweep: {seed: [1]}\n");
  const std::vector<std::string> words{
      "--set", "baselines=[full, dyn, naee_dyn]", "--set", "search.merge.evaluations=2", "--threads", "1"};
  const auto run = [&](const std::string& name, const std::vector<std::string>& more,
                       const RunLimits& limits) {
    std::vector<std::string> command{"run", file, "--output", directory(name)};
    command.insert(command.end(), words.begin(), words.end());
    command.insert(command.end(), more.begin(), more.end());
    const Outcome outcome = eep::test::eep(command, limits);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return run_bytes(directory(name));
  };
  const std::string one = run("one", {}, {});
  CHECK(run("three", {}, on_ranks(3)) == one);
  CHECK(run("stages", {"--pipeline", "2"}, on_ranks(2)) == one);
  CHECK(run("both", {"--pipeline", "2"}, on_ranks(4)) == one);
}

#endif

TEST_CASE("skipping: a model with more than two active experts is refused in one line") {
  const TempDir directory;
  const std::string file =
      directory.write("e.yaml", "name: small\nmodel: {path: " + std::string(EEP_SOURCE_DIR) +
                                    "/experiments/demo/qwen}\n" + R"(
task: {name: sort, train: {limit: 4}, dev: {limit: 4}, test: {limit: 4}}
plan: {experts: 8, groups: 2}
search: {population: 4, prune: {evaluations: 4, initial: 4}, merge: {evaluations: 2}}
baselines: [full, dyn]
)");
  const Outcome made = eep::test::eep({"run", file, "--output", directory("run")});
  CHECK(made.code == 78);
  CHECK(made.err.find("dynamic skipping: it leaves out the second of two experts") != std::string::npos);
  CHECK(eep::test::eep({"run", file, "--dry-run"}).code == 78);
}
