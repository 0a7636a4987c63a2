// Several tasks in one search, benchmarks from raw files to a score, and the profile: from outside.
#include <doctest/doctest.h>

#include <cmath>

#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

std::string experiment(const TempDir& directory, const std::string& tasks) {
  return directory.write("e.yaml", "name: tiny\nmodel: {path: " + kDemoModel +
                                       "}\ntask: {train: {limit: 8}, dev: {limit: 8}, test: {limit: 8}}\n" +
                                       tasks +
                                       "plan: {experts: 4, groups: 2}\nbaselines: [full, frequency]\n"
                                       "search:\n  population: 4\n  dev_count: 2\n"
                                       "  prune: {evaluations: 8, initial: 6}\n  merge: {evaluations: 4}\n");
}

Json archive_of(const std::string& run) {
  Json lines = Json::array();
  const std::string text = slurp(run + "/archive.jsonl");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    lines.push_back(parse_json(text.substr(begin, end - begin), "archive"));
    begin = end + 1;
  }
  return lines;
}

}  // namespace

TEST_CASE("tasks: one that is only looked at in the end needs no train split") {
  TempDir directory;
  const std::string data = std::string(EEP_SOURCE_DIR) + "/experiments/demo/data/cause/test.jsonl";
  const std::string other =
      directory.write("other.yaml", "name: other\nkind: multiple_choice\ndata: {test: " + data +
                                        "}\nprompt: \"{premise}\\nSo for {name} it was\"\n"
                                        "choices_from: choices\ntarget: label\nmetric: acc\n");
  const std::string file =
      experiment(directory, "tasks: [{name: entail}, {name: " + other + ", weight: 0}]\n");
  const Outcome outcome = eep::test::eep({"run", file, "--output", directory("out")});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const Json result = parse_json(slurp(directory("out/result.json")), "result");
  CHECK(result.at("tasks")[1].at("test").contains("eep_merge"));
  CHECK(result.at("search").at("work").at("tokens_kept") == 0);  // several tasks keep no layers
}

TEST_CASE("tasks: the fitness is the mean or the least of several, a guard rules plans out") {
  TempDir directory;
  const auto run = [&](const std::string& name, const std::string& tasks) {
    const Outcome outcome =
        eep::test::eep({"run", experiment(directory, tasks), "--output", directory(name)});
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return parse_json(slurp(directory(name) + "/result.json"), "result");
  };
  const Json mean =
      run("mean", "tasks: [{name: entail, weight: 3}, {name: yesno}, {name: cause, weight: 0}]\n");
  REQUIRE(mean.at("tasks").size() == 3);
  CHECK(mean.at("task").at("name") == "entail");
  CHECK(mean.at("tasks")[2].at("name") == "cause");
  for (const Json& task : mean.at("tasks")) {
    CHECK(task.at("n") == 8);
    for (const char* method : {"full", "frequency", "eep_prune", "eep_merge"})
      CHECK(task.at("test").contains(method));
  }
  CHECK(mean.at("methods")[0].at("test").at("score") ==
        mean.at("tasks")[0].at("test").at("full").at("score"));
  CHECK(archive_of(directory("mean"))[0].at("n") == 16);

  const Json least = run("least", "tasks: [{name: entail}, {name: yesno}]\nfitness_over: min\n");
  CHECK(least.at("fitness_over") == "min");
  // Of eight items each: the least is a multiple of 1/8, the weighted mean above was of 1/32.
  for (const Json& line : archive_of(directory("least")))
    CHECK(line.at("fitness").get<double>() * 8 == std::floor(line.at("fitness").get<double>() * 8));

  // Nobody loses nothing on ten tasks' worth of items but by luck; a guard of 100 points rules nobody out.
  run("guarded", "tasks: [{name: entail}, {name: yesno, guard: 100}]\n");
  for (const Json& line : archive_of(directory("guarded"))) CHECK(line.at("fitness").get<double>() >= 0);

  const auto refused = [&](const std::string& tasks, const std::string& what) {
    const Outcome outcome = eep::test::eep({"run", experiment(directory, tasks), "--dry-run"});
    CAPTURE(outcome.err);
    CHECK(outcome.code == 78);
    CHECK(outcome.err.find(what) != std::string::npos);
  };
  refused("tasks: [{name: entail, weight: 0}]\n", "no task has a weight above 0");
  refused("tasks: [{name: entail}, {name: entail}]\n", "named twice (entail)");
  refused("tasks: [{name: entail, wait: 1}]\n", "weight");
  refused("tasks: [{name: entail}, {name: yesno, guard: -1}]\n", "guard");
  refused("", "task.name");
}

TEST_CASE("tasks: from raw files to a score under several metrics") {
  TempDir directory;
  std::string rows;
  for (int i = 0; i < 6; ++i)
    rows += R"({"id": "1", "question": {"stem": "S)" + std::to_string(i) +
            R"(", "choices": [{"text": "a", "label": "A"}, {"text": "bb", "label": "B"}]}, "answerKey": "B"})"
            "\n";
  const std::string raw = directory.write("ARC-Easy-Test.jsonl", rows), out = directory("data");
  const Outcome imported = eep::test::eep({"task", "import", "arc_easy", raw, "--out", out, "--json"});
  CAPTURE(imported.err);
  REQUIRE(imported.code == 0);
  CHECK(parse_json(imported.out, "import").at("splits").at("test") == 6);
  CHECK(imported.err.find("test has 6 items (published: 2376)") != std::string::npos);
  const Outcome scored =
      eep::test::eep({"eval", kDemoModel, "--task", out + "/arc_easy.yaml", "--split", "test", "--json"});
  CAPTURE(scored.err);
  REQUIRE(scored.code == 0);
  const Json json = parse_json(scored.out, "eval");
  CHECK(json.at("metric") == "acc");
  CHECK(json.at("n") == 6);
  for (const char* metric : {"acc", "acc_norm", "acc_bytes"}) CHECK(json.at("metrics").contains(metric));
  CHECK(json.at("metrics").at("acc").at("score") == json.at("score"));
  // No item has four choices: the paper's protocol asks none.
  CHECK(eep::test::eep({"eval", kDemoModel, "--task", out + "/arc_easy.yaml", "--protocol", "eep"}).code ==
        65);

  const Outcome list = eep::test::eep({"task", "list", "--json"});
  CHECK(list.code == 0);
  CHECK(parse_json(list.out, "list").size() >= 19);
  CHECK(eep::test::eep({"task", "import", "arc"}).code == 2);
  CHECK(eep::test::eep({"task", "import", "arc_easy", raw}).code == 2);
  CHECK(eep::test::eep({"task", "import", "arc_easy", directory("none.jsonl"), "--out", out}).code == 66);
  CHECK(eep::test::eep({"task", "import", "rte", raw, "--out", out}).code == 65);
}

TEST_CASE("profile: speed at each batch, and what is left of the weights") {
  const auto profile = [](std::vector<std::string> more) {
    std::vector<std::string> words{"profile", kDemoModel, "--batch", "1,3",      "--prompt", "12",
                                   "--new",   "4",        "--json",  "--repeat", "2"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = eep::test::eep(words);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return parse_json(outcome.out, "profile");
  };
  const Json full = profile({});
  REQUIRE(full.at("batches").size() == 2);
  CHECK(full.at("batches")[1].at("batch") == 3);
  for (const char* phase : {"prefill_tokens_per_second", "decode_tokens_per_second"}) {
    const Json& speed = full.at("batches")[1].at(phase);
    CHECK(speed.at("min").get<double>() > 0);
    CHECK(speed.at("min") <= speed.at("median"));
    CHECK(speed.at("median") <= speed.at("max"));
  }
  CHECK(full.at("peak_memory_bytes").get<int64_t>() > full.at("weights_bytes").get<int64_t>());
  TempDir directory;
  const std::string scores = directory("s.json"), plan = directory("p.json");
  REQUIRE(eep::test::eep({"calibrate", kDemoModel, "--task", "sort", "--limit", "4", "--out", scores}).code ==
          0);
  REQUIRE(eep::test::eep({"select", scores, "--method", "frequency", "--experts", "4", "--out", plan}).code ==
          0);
  const Json inspect = parse_json(eep::test::eep({"inspect", kDemoModel, "--json"}).out, "inspect");
  const Json half = profile({"--plan", plan, "--top-k", "1"});
  CHECK(half.at("top_k") == 1);
  CHECK(full.at("weights_bytes").get<int64_t>() - half.at("weights_bytes").get<int64_t>() ==
        inspect.at("parameters").at("experts").get<int64_t>() / 2 * 2);  // half of them, two bytes each
  CHECK(eep::test::eep({"profile", kDemoModel, "--batch", "0"}).code == 2);
  CHECK(eep::test::eep({"profile", kDemoModel, "--prompt", "1000000"}).code == 2);
  CHECK(eep::test::eep({"profile", kDemoModel, "--top-k", "9"}).code == 2);
}
