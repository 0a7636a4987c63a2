// Input that nobody meant: overflow inside a model, empty names, numbers that are read otherwise than they
// are written, outputs in the place of inputs, inputs that change under a run. One line, and nothing is done.
#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>

#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

std::string write_task(const TempDir& directory, const std::string& metric = "acc") {
  directory.write("train.jsonl", "{\"q\": \"a b\", \"label\": 0}\n{\"q\": \"b a\", \"label\": 1}\n");
  directory.write("test.jsonl", "{\"q\": \"c d\", \"label\": 1}\n{\"q\": \"d c\", \"label\": 0}\n");
  return directory.write("t.yaml", R"(name: own
kind: multiple_choice
data: {train: train.jsonl, test: test.jsonl}
prompt: "{q}"
choices: [" a", " b c"]
target: label
metric: )" + metric + "\n");
}

std::string write_experiment(const TempDir& directory, const std::string& model,
                             const std::string& more = "") {
  return directory.write("e.yaml", "name: n\nmodel: {path: " + model + "}\n" + R"(task: {name: t.yaml}
plan: {experts: 4, groups: 1}
search:
  population: 2
  prune: {evaluations: 4, initial: 2}
  merge: {evaluations: 4}
baselines: [full, frequency]
)" + more);
}

// The demo's model with one tensor of the largest finite values.
std::string huge_model(const TempDir& directory, const std::string& tensor) {
  std::string bytes = slurp(kDemoModel + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const Json header = parse_json(bytes.substr(8, length), "header");
  const auto begin = header.at(tensor).at("data_offsets")[0].get<size_t>() + 8 + length;
  const auto end = header.at(tensor).at("data_offsets")[1].get<size_t>() + 8 + length;
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
            bytes.begin() + static_cast<std::ptrdiff_t>(end), '\x7f');
  std::filesystem::copy(kDemoModel, directory("huge"));
  std::filesystem::permissions(directory("huge"), std::filesystem::perms::owner_all);
  std::filesystem::remove(directory("huge/model.safetensors"));
  directory.write("huge/model.safetensors", bytes);
  return directory("huge");
}

}  // namespace

TEST_CASE(
    "strange: values that overflow inside the model are said, and no statistics or table are made of them") {
  const TempDir directory;
  const std::string task = write_task(directory), scores = directory("s.json"), run = directory("run");
  const std::string model = huge_model(directory, "model.layers.1.block_sparse_moe.experts.3.w1.weight");
  const std::string beyond = "values inside the model exceed what floats hold";
  check_one_error(eep::test::eep({"calibrate", model, "--task", task, "--split", "train", "--out", scores}),
                  65, "calibration: layer ");
  CHECK(!std::filesystem::exists(scores));
  check_one_error(eep::test::eep({"run", write_experiment(directory, model), "--output", run}), 65, beyond);
  CHECK(!std::filesystem::exists(run + "/result.json"));
}

TEST_CASE("strange: what a model that overflows puts out is no token, no speed and no figure") {
  const TempDir directory;
  const std::string model = huge_model(directory, "model.norm.weight");
  const Outcome made = eep::test::eep({"generate", model, "--prompt", "Sort: b a", "--print-ids"});
  CHECK(made.code == 0);
  CHECK(made.out == "[]\n");
  CHECK(made.err.find("stopped after 0 of 64 new tokens: the logits are no numbers") != std::string::npos);
  const std::string prompts = directory.write("p.txt", "Sort: b a\nSort: d c\n");
  const Outcome probed =
      eep::test::eep({"generate", model, "--probe", prompts, "--against", kDemoModel, "--json"});
  CHECK(probed.code == 0);
  CHECK(probed.err.find("model: 2 of 2 continuations ended where the logits are no numbers") !=
        std::string::npos);
  CHECK(probed.err.find("full: ") == std::string::npos);
  const Json models = parse_json(probed.out, "probe").at("models");
  CHECK(models[0].at("loop_rate").is_null());
  CHECK(models[0].at("each")[1].at("loops").is_null());
  CHECK(models[1].at("loop_rate").is_number());
  check_one_error(eep::test::eep({"profile", model, "--batch", "1", "--prompt", "8", "--new", "4"}), 65,
                  "its logits are no numbers");
  CHECK(eep::test::eep({"generate", kDemoModel, "--prompt", "Sort: b a"}).err.empty());
}

TEST_CASE("strange: an empty name is no missing option, and 010 is no 8") {
  const TempDir directory;
  const std::string task = write_task(directory);
  for (const char* option : {"--plan", "--samples"}) {
    check_one_error(eep::test::eep({"eval", kDemoModel, "--task", task, option, ""}), 2, "an empty name");
  }
  check_one_error(eep::test::eep({"run", write_experiment(directory, kDemoModel), "--output", ""}), 2,
                  "an empty name");
  for (const char* number : {"010", "0x10", "1e1", "+1"}) {
    check_one_error(eep::test::eep({"eval", kDemoModel, "--task", task, "--limit", number}), 2, number);
  }
  check_one_error(eep::test::eep({"tokenize", kDemoModel, "--decode", "--text", "[99999]"}), 65, "got 99999");
}

TEST_CASE("strange: outputs that are inputs, or cannot be written, are found first") {
  const TempDir directory;
  const std::string task = write_task(directory), scores = directory("s.json");
  REQUIRE(
      eep::test::eep({"calibrate", kDemoModel, "--task", task, "--split", "train", "--out", scores}).code ==
      0);
  const auto select = [&](const std::string& out, const std::string& list) {
    return eep::test::eep(
        {"select", scores, "--method", "reap", "--experts", "4", "--out", out, "--export-keep-list", list});
  };
  check_one_error(select(scores, directory("k.json")), 2, "is a score file that is read");
  check_one_error(select(directory("p.json"), directory("p.json")), 2, "names the same file as --out");
  check_one_error(select(directory("p.json"), directory("no/k.json")), 74, "no directory");
  CHECK(!std::filesystem::exists(directory("p.json")));
  CHECK(select(directory("p.json"), directory("k.json")).code == 0);
  check_one_error(eep::test::eep({"import-keep-list", directory("k.json"), "--model", kDemoModel, "--out",
                                  directory("k.json")}),
                  2, "is the keep list that is read");
  check_one_error(eep::test::eep({"logits", kDemoModel, "--ids", "1", "--out", directory("l"), "--taps",
                                  directory("no/t")}),
                  74, "no directory");
  CHECK(!std::filesystem::exists(directory("l")));
  std::filesystem::create_directory(directory("full"));
  directory.write("full/file", "x");
  const Outcome full =
      eep::test::eep({"export", kDemoModel, "--plan", directory("p.json"), "--out", directory("full")});
  check_one_error(full, 2, "directory is not empty");
  CHECK(full.err.find("hashing") == std::string::npos);  // which takes minutes
}

TEST_CASE("strange: rows of zeros in a plan are said") {
  const TempDir directory;
  const std::string task = write_task(directory), scores = directory("s.json"), file = directory("p.json");
  REQUIRE(
      eep::test::eep({"calibrate", kDemoModel, "--task", task, "--split", "train", "--out", scores}).code ==
      0);
  REQUIRE(
      eep::test::eep({"select", scores, "--method", "reap", "--experts", "4", "--groups", "1", "--out", file})
          .code == 0);
  Json plan = parse_json(slurp(file), file);
  for (Json& value : plan["groups"][0]["expert_merging"][1]) value = 0;
  for (Json& value : plan["groups"][0]["router_mapping"][2]) value = 0;
  directory.write("p.json", plan.dump());
  const Outcome outcome =
      eep::test::eep({"eval", kDemoModel, "--task", task, "--split", "test", "--plan", file});
  CHECK(outcome.code == 0);
  CHECK(outcome.err.find("groups[0].expert_merging: rows 1 are zero") != std::string::npos);
  CHECK(outcome.err.find("groups[0].router_mapping: rows 2 are zero") != std::string::npos);
}

TEST_CASE("strange: budgets that cannot be met leave no run behind") {
  const TempDir directory;
  write_task(directory);
  const std::string run = directory("run");
  const std::string file = write_experiment(directory, kDemoModel);
  check_one_error(eep::test::eep({"run", file, "--output", run, "--memory", "1000"}), 1,
                  "the budget is too small");
  check_one_error(eep::test::eep({"run", file, "--output", run, "--set", "plan.experts={total: 99}"}), 78,
                  "more than all layers together may keep (expected 32 or less, got 99)");
  CHECK(!std::filesystem::exists(run));
}

TEST_CASE("strange: a run does not go on with another task file or other tokens") {
  const TempDir directory;
  const std::string task = write_task(directory), run = directory("run");
  std::filesystem::copy(kDemoModel, directory("model"));
  REQUIRE(eep::test::eep({"run", write_experiment(directory, directory("model")), "--output", run}).code ==
          0);
  const auto resume = [&] {
    std::filesystem::remove(run + "/result.json");
    return eep::test::eep({"run", "--resume", run});
  };
  directory.write("t.yaml", "# a comment\n\n" + slurp(task));
  CHECK(resume().code == 0);
  write_task(directory, "acc_norm");
  check_one_error(resume(), 65, "the task file own has changed");
  write_task(directory);
  std::string tokenizer = slurp(directory("model/tokenizer.json"));
  const size_t at = tokenizer.find("\"add_prefix_space\": false") != std::string::npos
                        ? tokenizer.find("\"add_prefix_space\": false") + 20
                        : tokenizer.find("\"add_prefix_space\":false") + 19;
  REQUIRE(tokenizer.compare(at, 5, "false") == 0);
  std::filesystem::remove(directory("model/tokenizer.json"));
  directory.write("model/tokenizer.json", tokenizer.replace(at, 5, "true"));
  check_one_error(resume(), 65, "tokens of the train split");
}
