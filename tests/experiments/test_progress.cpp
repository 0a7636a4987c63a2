// Every phase of a run says how far it is.
#include <doctest/doctest.h>

#include <map>

#include "experiments/study/combination.h"
#include "kernels/common/interrupt.h"
#include "tests/experiments/small_run.h"

using namespace eep;

namespace {

std::string task_file(const std::string& name) {
  return test::kSource + "/experiments/tasks/" + name + ".yaml";
}

struct Told {
  int64_t first = 0, last = 0, total = 0, calls = 0;
  bool grows = true;

  void add(int64_t done, int64_t all) {
    if (calls++ == 0) first = done;
    grows = grows && done >= last;
    last = done;
    total = all;
  }
};

// By name of the work.
using Everything = std::map<std::string, Told>;

RunHooks recording(Everything& told) {
  RunHooks hooks;
  hooks.say = hooks.warn = [](const std::string&) {};
  hooks.progress = hooks.work = [&](const std::string& what, int64_t done, int64_t total,
                                    const std::string&) { told[what].add(done, total); };
  hooks.bytes = [&](const std::string& what, size_t done, size_t total) {
    told[what].add(static_cast<int64_t>(done), static_cast<int64_t>(total));
  };
  return hooks;
}

Everything run(const std::string& file) {
  const Experiment experiment = expand_sweep(file).at(0).experiment;
  ModelContext model(test::kDemoModel, cpu_ops());
  TaskContext task(model, 0, experiment);
  Everything told;
  const RunHooks hooks = recording(told);
  const std::string directory = file + ".run";
  std::filesystem::create_directory(directory);
  CombinationRun(model, task, experiment, directory, {4}, hooks).run();
  return told;
}

}  // namespace

TEST_CASE("progress: calibration, search, choice, final evaluation and export all tell how far they are") {
  test::TempDir directory;
  const Everything told = run(test::small_run(directory, "export: {format: hf}\n", task_file("sort")));
  const std::map<std::string, int64_t> totals{{"prune", 32},
                                              {"merge", 32},
                                              {"calibration", -1},
                                              {"baselines", 5},
                                              {"choosing on the dev split", -1},
                                              {"evaluation on the train split", -1},
                                              {"evaluation on the dev split", -1},
                                              {"final evaluation on the test split", -1},
                                              {"export", -1}};
  for (const auto& [name, total] : totals) {
    const std::string what = name;  // a binding is not captured
    CAPTURE(what);
    const auto found = told.find(what);
    REQUIRE(found != told.end());
    if (total > 0) CHECK(found->second.total == total);
    if (what == "baselines") continue;  // told as each begins
    CHECK(found->second.calls > 1);
    if (what != "choosing on the dev split") CHECK(found->second.grows);  // twice: of prune, of merge
    if (what != "prune") CHECK(found->second.last == found->second.total);
  }
  // Within a generation too, and never past it: five candidates a generation, eight in the first.
  CHECK(told.at("prune").calls > 4);
  CHECK(told.at("prune").last == 14);
}

TEST_CASE("progress: of answers that scores leave open, decoding is a step of its own") {
  test::TempDir directory;
  const std::string data = test::kSource + "/experiments/demo/data/sort/";
  const std::string task = directory.write(
      "words.yaml", "name: words\nkind: generate\ndata: {train: " + data + "train.jsonl, dev: " + data +
                        "dev.jsonl, test: " + data +
                        "test.jsonl}\nprompt: \"Sort: {letters}\\nSorted:\"\ntarget: answer\nmetric: f1\n"
                        "generate: {max_new: 16, stop: [\"\\n\"]}\n");
  const Everything told = run(test::small_run(directory, "", task));
  const Told& scored = told.at("final evaluation on the test split");
  CHECK(scored.last == scored.total);
  const auto decoded = told.find("final evaluation on the test split, decoding");
  REQUIRE(decoded != told.end());
  CHECK(decoded->second.last == decoded->second.total);
  CHECK(decoded->second.total < scored.total);
}

TEST_CASE("run: what baselines rest on is told once, and how redundant the experts are") {
  test::TempDir directory;
  const std::string file = test::small_run(directory, "", "sort");
  const test::Outcome outcome =
      test::eep({"run", file, "--output", directory("run"), "--set", "task.train.limit=1"});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto times = [&](const std::string& what) {
    int64_t count = 0;
    for (size_t at = outcome.err.find(what); at != std::string::npos; at = outcome.err.find(what, at + 1))
      ++count;
    return count;
  };
  CHECK(times("redundancy: with the best 4 of 8 experts a layer the outputs of the expert blocks move by ") ==
        1);
  // One item's tokens do not reach every expert of every layer.
  CHECK(times("layer 0: no token was routed to expert") <= 1);
  CHECK(times(": no token was routed to expert") >= 1);
}
