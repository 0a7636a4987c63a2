// What combinations of a sweep share and how they are told apart; what is known to be wrong before a long
// run; what a resume may not find changed.
#include <doctest/doctest.h>

#include <cmath>
#include <span>

#include "experiments/study/calibration_cache.h"
#include "experiments/study/methods.h"
#include "experiments/study/seeds.h"
#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

constexpr const char* kSearch = R"(plan: {experts: 4, groups: 2}
search:
  population: 4
  dev_count: 2
  prune: {evaluations: 8, initial: 6}
  merge: {evaluations: 8}
baselines: [full, frequency, naee]
)";

std::string experiment(const TempDir& directory, const std::string& task, const std::string& more = "") {
  return directory.write("e.yaml", "name: tiny\nmodel: {path: " + kDemoModel + "}\n" + task + kSearch + more);
}

constexpr const char* kSort = "task: {name: sort, train: {limit: 6}, dev: {limit: 6}, test: {limit: 6}}\n";

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// A result with one method per name, all with this test score.
RunRow row_of(const std::string& task, double score, const std::string& label, const std::string& without) {
  Json methods = Json::array();
  for (const char* name : {"full", "eep_merge"}) {
    methods.push_back({{"name", name},
                       {"experts", 4},
                       {"parameters", 1000},
                       {"test", {{"score", score}, {"ci95", {0.0, 1.0}}, {"p_vs_full", nullptr}}},
                       {"evaluations", 3},
                       {"seconds", 0.5}});
  }
  return {{{"task", {{"name", task}}}, {"methods", methods}}, label, without, ""};
}

}  // namespace

TEST_CASE("sweep: calibration is made once a task and read again by a resume") {
  TempDir directory;
  const std::string file = experiment(directory, kSort, "sweep: {plan.experts: [4, 2], seed: [1, 2]}\n");
  const std::string run = directory("run");
  const Outcome first = eep::test::eep({"run", file, "--output", run});
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  CHECK(count(first.err, "calibration\n") == 1);

  const std::string one = run + "/plan.experts=2,seed=2";
  const std::string before = slurp(one + "/archive.jsonl") + slurp(one + "/plans/naee.json");
  for (const char* name : {"/result.json", "/archive.jsonl", "/plans/naee.json"})
    std::filesystem::remove(one + name);
  std::filesystem::remove_all(one + "/checkpoints");
  const Outcome resumed = eep::test::eep({"run", file, "--resume", run});
  CHECK(resumed.code == 0);
  CHECK(count(resumed.err, "calibration\n") == 0);
  CHECK(slurp(one + "/archive.jsonl") + slurp(one + "/plans/naee.json") == before);

  // A damaged cache is made again.
  for (const auto& entry : std::filesystem::directory_iterator(run + "/checkpoints"))
    std::filesystem::resize_file(entry.path(), 100);
  std::filesystem::remove(one + "/result.json");
  const Outcome repaired = eep::test::eep({"run", file, "--resume", run});
  CHECK(repaired.code == 0);
  CHECK(count(repaired.err, "calibration\n") == 1);
}

TEST_CASE("sweep: relative models are found again by a resume from anywhere, their labels stay") {
  TempDir directory;
  std::filesystem::create_directory(directory("here"));
  std::filesystem::create_directory_symlink(kDemoModel, directory("here/a"));
  std::filesystem::create_directory_symlink(kDemoModel, directory("here/b"));
  const std::string run = directory("run"),
                    file =
                        directory.write("here/e.yaml", "name: tiny\nmodel: {path: a}\n" + std::string(kSort) +
                                                           kSearch + "sweep: {model.path: [a, b]}\n");
  const Outcome first = eep::test::eep({"run", file, "--output", run});
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  std::filesystem::remove(run + "/model.path=b/result.json");
  const Outcome resumed = eep::test::eep({"run", "--resume", run});  // its file lies in the run directory
  CAPTURE(resumed.err);
  CHECK(resumed.code == 0);
  CHECK(std::filesystem::exists(run + "/model.path=b/result.json"));
  CHECK(eep::test::eep({"run", file, "--output", run, "--resume-if-there"}).code == 0);
}

TEST_CASE("sweep: runs that differ in other fields are told apart, seeds are summed up") {
  TempDir directory;
  const std::string file =
      experiment(directory, kSort, "sweep: {search.merge.sigma: [0.05, 0.1], seed: [1, 2]}\n");
  const Outcome outcome = eep::test::eep({"run", file, "--output", directory("run")});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::string table = slurp(directory("run") + "/table.txt");
  CHECK(count(table, "search.merge.sigma=0.1,seed=2") == 4);  // every method but full
  const Json summary = parse_json(slurp(directory("run") + "/summary.json"), "summary.json");
  CHECK(summary.at("runs").size() == 4);
  size_t merged = 0;
  for (const Json& row : summary.at("over_seeds")) {
    CHECK(row.at("seeds") == 2);
    const std::string method = row.at("method");
    CHECK(row.contains("p_vs_full") == method.starts_with("eep_"));
    if (method == "eep_merge") {
      for (const char* key : {"vs_full", "vs_prune"}) {
        const double p = row.at(std::string("p_") + key), holm = row.at(std::string("holm_") + key);
        CHECK(p <= holm);
        CHECK(holm <= 1.0);
      }
    }
    merged += row.at("method") == "eep_merge" ? 1u : 0u;
  }
  CHECK(merged == 2);  // one a sigma
  CHECK(compact_table(summary.at("over_seeds"), "eep") + "\n" + directory("run") + "\n" == outcome.out);
  CHECK(count(outcome.out, "sort ") == 2);  // a row a sigma
}

TEST_CASE("tables: one row for the full model, Student's interval over seeds") {
  const std::vector<RunRow> rows{row_of("sort", 0.5, "seed=1", ""), row_of("sort", 0.6, "seed=2", ""),
                                 row_of("sort", 0.7, "seed=3", "")};
  const Json summary = seeds_summary(rows);
  REQUIRE(summary.size() == 2);
  CHECK(summary[1].at("method") == "eep_merge");
  CHECK(summary[1].at("mean").get<double>() == doctest::Approx(0.6));
  // Standard deviation 0.1, standard error 0.1 / sqrt(3), t(2) = 4.303.
  CHECK(summary[1].at("ci95")[0].get<double>() == doctest::Approx(0.6 - 4.303 * 0.1 / std::sqrt(3.0)));
  CHECK(seeds_summary(std::span(rows).first(1))[0].at("ci95").is_null());
  const std::vector<RunRow> budgets{row_of("sort", 0.5, "", ""), row_of("sort", 0.5, "", "")};
  const std::string table = result_table(budgets);
  CHECK(count(table, "full") == 2);  // one row, and "p vs full"
  CHECK(count(table, "eep_merge") == 2);
  CHECK(count(table, "run") == 0);
  CHECK(count(result_table(rows), "seed=2") == 1);
  RunRow sized = row_of("sort", 0.5, "", "");
  sized.result["methods"][1]["bytes"] = int64_t{3} << 29;
  sized.result["methods"][1]["test"]["recovery"] = 0.9125;
  const std::string with_size = result_table(std::span(&sized, 1));
  CHECK(count(with_size, " 1.5 ") == 1);  // GiB
  CHECK(count(with_size, " 91.2 ") + count(with_size, " 91.3 ") == 1);
}

TEST_CASE("tables: full models of a sweep over models have a row each, also where they score alike") {
  std::vector<RunRow> rows{row_of("sort", 0.5, "model.path=a,seed=1", "model.path=a"),
                           row_of("sort", 0.5, "model.path=a,seed=2", "model.path=a"),
                           row_of("sort", 0.5, "model.path=b,seed=1", "model.path=b")};
  CHECK(full_models_table(rows).empty());
  for (RunRow& row : rows) row.label_of_full = row.label_without_seed;
  const std::string table = full_models_table(rows);
  CHECK(count(table, " full ") == 2);
  CHECK(count(table, "model.path=a") == 1);
  CHECK(count(table, "model.path=b") == 1);
  CHECK(compact_table(seeds_summary(rows), "eep", true).find(" full ") == std::string::npos);
}

TEST_CASE(
    "tables: Holm's correction over all searched plans; the compact table names the best one-shot method") {
  Json methods = Json::array();
  const auto add = [&](const char* name, int experts, double score, double p) {
    Json test{{"score", score}, {"ci95", {0.0, 1.0}}, {"p_vs_full", p}};
    if (std::string(name) == "eep_merge") test["p_vs_prune"] = 0.03;
    methods.push_back({{"name", name},
                       {"experts", experts},
                       {"parameters", 1000},
                       {"test", test},
                       {"evaluations", 3},
                       {"seconds", 0.5}});
  };
  add("full", 8, 0.7, 1.0);
  add("reap", 4, 0.4, 0.5);
  add("naee", 4, 0.6, 0.5);
  add("random", 4, 0.65, 0.5);
  add("control_eep", 4, 0.66, 0.5);
  add("eep_prune", 4, 0.61, 0.02);
  add("eep_merge", 4, 0.8, 0.01);
  const RunRow row{{{"task", {{"name", "sort"}}}, {"methods", methods}}, "", "", ""};
  const Json summary = seeds_summary(std::span(&row, 1));
  CHECK(summary[4].at("holm_vs_full") == 0.5);
  CHECK(summary[5].at("holm_vs_full").get<double>() == doctest::Approx(0.04));
  CHECK(summary[6].at("holm_vs_full").get<double>() == doctest::Approx(0.03));
  CHECK(summary[6].at("holm_vs_prune").get<double>() == doctest::Approx(0.03));
  CHECK(summary[5].at("p_vs_prune").is_null());
  const std::string table = compact_table(summary, "rsgn");
  CHECK(table.find("task  experts  full  best one-shot  prune   eep  rsgn  p vs full  p vs prune  seconds") ==
        0);
  CHECK(table.find("sort        4  70.0      naee 60.0   61.0  66.0  80.0       0.01        0.03      0.5") !=
        std::string::npos);
}

TEST_CASE("calibration cache: another model, other text or other options are not taken") {
  TempDir directory;
  const std::string scores = directory("scores.json"), cache = directory("cache.json");
  REQUIRE(eep::test::eep({"calibrate", kDemoModel, "--task", "sort", "--limit", "4", "--subset-tokens", "64",
                          "--out", scores})
              .code == 0);
  const std::string text = slurp(scores);
  const Calibration made{parse_statistics(text, scores), 1.5};
  write_calibration(cache, made, "options");
  const auto found = read_calibration(cache, made.file.model, made.file.data, "options");
  REQUIRE(found.has_value());
  CHECK(statistics_json(found->file) == text);
  CHECK(found->seconds == 1.5);
  CHECK(!read_calibration(cache, "xxh3:0", made.file.data, "options"));
  CHECK(!read_calibration(cache, made.file.model, "xxh3:0", "options"));
  CHECK(!read_calibration(cache, made.file.model, made.file.data, "others"));
  CHECK(!read_calibration(directory("none.json"), made.file.model, made.file.data, "options"));
  directory.write("cache.json", "{\"format\": 1}");
  CHECK(!read_calibration(cache, made.file.model, made.file.data, "options"));
}

TEST_CASE("run: a split that is not there is found before the search, a changed one by the resume") {
  TempDir directory;
  const std::string lines = [] {
    std::string text;
    for (const char* word : {"a b", "c a", "b a", "d c", "a d", "c b"})
      text += std::string("{\"letters\": \"") + word + "\", \"answer\": \"" + word + "\"}\n";
    return text;
  }();
  directory.write("t.yaml", R"(name: own
kind: generate
data: {train: train.jsonl, test: test.jsonl}
prompt: "Sort: {letters}\nSorted:"
target: answer
metric: exact_match
generate: {max_new: 6, stop: ["\n"]}
)");
  directory.write("train.jsonl", lines);
  const std::string task = "task: {name: t.yaml, allow_overlap: true}\n";
  const std::string run = directory("run");
  check_one_error(eep::test::eep({"run", experiment(directory, task), "--output", run}), 66, "test.jsonl");
  directory.write("test.jsonl", lines);
  check_one_error(
      eep::test::eep(
          {"run", experiment(directory, "task: {name: t.yaml, test: {split: final}}\n"), "--output", run}),
      78, "task.test.split: task own has no such split (got final)");
  check_one_error(eep::test::eep({"run", experiment(directory, "task: {name: t.yaml, dev: {split: extra}}\n"),
                                  "--output", run}),
                  78, "task.dev.split");
  CHECK(!std::filesystem::exists(run));

  const std::string file = experiment(directory, task);  // no dev split: chosen by the train split
  const Outcome outcome = eep::test::eep({"run", file, "--output", run});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  CHECK(result.at("methods")[0].at("dev").is_null());
  CHECK(result.at("methods")[0].at("train").at("n") == 6);
  directory.write("train.jsonl", lines + "{\"letters\": \"x\", \"answer\": \"x\"}\n");
  std::filesystem::remove(run + "/result.json");
  check_one_error(eep::test::eep({"run", file, "--resume", run}), 65, "the train split has changed");
}

TEST_CASE("run: a broken test split is found before the search, and items that splits share") {
  TempDir directory;
  directory.write("t.yaml", R"(name: own
kind: multiple_choice
data: {train: train.jsonl, test: test.jsonl}
prompt: "{q}"
choices: [" no", " yes"]
target: label
metric: acc
)");
  directory.write("train.jsonl", "{\"q\": \"a\", \"label\": 0}\n{\"q\": \"b\", \"label\": 1}\n");
  directory.write("test.jsonl", "this is not JSON\n");
  const std::string run = directory("run");
  const Outcome outcome =
      eep::test::eep({"run", experiment(directory, "task: {name: t.yaml}\n"), "--output", run});
  check_one_error(outcome, 65, "test.jsonl:1:");
  CHECK(!std::filesystem::exists(run));
  check_one_error(eep::test::eep({"run", directory("e.yaml"), "--dry-run"}), 65, "test.jsonl:1:");

  directory.write("test.jsonl", "{\"q\": \"c\", \"label\": 1}\n{\"q\": \" a\", \"label\": 1}\n");
  const std::string file = experiment(directory, "task: {name: t.yaml}\n");
  check_one_error(eep::test::eep({"run", file, "--output", run}), 65,
                  "1 of 2 items of the test split are in the train split too");
  CHECK(eep::test::eep({"run", file, "--output", run, "--set", "task.allow_overlap=true"}).code == 0);
  CHECK(slurp(run + "/result.json").find("\"overlap\"") != std::string::npos);
  CHECK(slurp(run + "/log.txt").find("are in the train split too") != std::string::npos);
  std::filesystem::remove(run + "/result.json");
  directory.write("test.jsonl", "{\"q\": \"d\", \"label\": 1}\n");
  check_one_error(eep::test::eep({"run", "--resume", run}), 65, "the test split has changed");
}

TEST_CASE("run: the same command line starts a run, goes on with it, and is done when it is done") {
  TempDir directory;
  const std::string run = directory("run"),
                    file = experiment(directory,
                                      "task: {name: sort, train: {limit: 4}, dev: {limit: 4}, "
                                      "test: {limit: 4}}\n");
  const std::vector<std::string> words{"run", file, "--output", run, "--resume-if-there"};
  const Outcome first = eep::test::eep(words), second = eep::test::eep(words);
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  CHECK(second.code == 0);
  CHECK(second.out == first.out);
  std::filesystem::remove(run + "/result.json");
  CHECK(eep::test::eep(words).err.find("resuming") != std::string::npos);
  check_one_error(eep::test::eep({"run", file, "--output", run, "--resume-if-there", "--set", "seed=3"}), 78,
                  "the configuration has changed");
  CHECK(eep::test::eep({"run", file, "--resume-if-there"}).code == 2);
}

TEST_CASE("run: seeds beyond 2^63 - 1 are refused as they are written") {
  TempDir directory;
  const std::string file = experiment(directory, "task: {name: sort, train: {limit: 4}}\n");
  for (const char* seed : {"9223372036854775808", "99999999999999999999", "-1"}) {
    check_one_error(eep::test::eep({"run", file, "--dry-run", "--set", std::string("seed=") + seed}), 78,
                    seed);
    const Outcome option = eep::test::eep({"run", file, "--dry-run", "--seed", seed});
    CHECK(option.code == 2);
    CHECK(option.err.find(seed) != std::string::npos);
  }
}

TEST_CASE("run: a search without evaluations is refused before a directory is made") {
  TempDir directory;
  const std::string run = directory("run"),
                    file = experiment(directory, "task: {name: sort, train: {limit: 4}}\n");
  for (const std::vector<std::string>& sets :
       {std::vector<std::string>{"search.prune.evaluations=0"},
        std::vector<std::string>{"plan.experts=8", "search.merge.evaluations=0"}}) {
    std::vector<std::string> words{"run", file, "--output", run};
    for (const std::string& set : sets) words.insert(words.end(), {"--set", set});
    CHECK(eep::test::eep(words).code == 78);
    CHECK(!std::filesystem::exists(run));
    words.emplace_back("--dry-run");
    CHECK(eep::test::eep(words).code == 78);
  }
}

TEST_CASE("generate: text as it comes is the text of the ids") {
  const std::vector<std::string> base{
      "generate", kDemoModel, "--prompt", "Sort: d b a c\nSorted:", "--max-new", "12", "--ignore-eos"};
  std::vector<std::string> ids = base;
  ids.push_back("--print-ids");
  const Outcome text = eep::test::eep(base), numbers = eep::test::eep(ids);
  REQUIRE(text.code == 0);
  REQUIRE(numbers.code == 0);
  TempDir directory;
  const Outcome decoded = eep::test::eep({"tokenize", kDemoModel, "--decode", "--no-special", "--file",
                                          directory.write("ids.json", numbers.out)});
  CHECK(decoded.out == text.out);
}
