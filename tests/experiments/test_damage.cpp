// What goes wrong around a command: full disks, unwritable places, damaged run directories, odd arguments.
// One line, the right exit code, nothing half-written, and a run that goes on afterwards.
#include <doctest/doctest.h>
#include <sys/file.h>

#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

// Exit code and what the one error line says, with at most a hint behind it.
void check_error(const Outcome& outcome, int code, const std::string& what) {
  CAPTURE(outcome.err);
  CHECK(outcome.code == code);
  const size_t at = outcome.err.find("eep: error: ");
  REQUIRE(at != std::string::npos);
  const std::string line = outcome.err.substr(at, outcome.err.find('\n', at) - at);
  CHECK(line.find(what) != std::string::npos);
  const std::string rest = outcome.err.substr(at + line.size() + 1);
  CHECK((rest.empty() || (rest.starts_with("eep: hint: ") && rest.find('\n') + 1 == rest.size())));
}

std::string tiny_experiment(const TempDir& directory) {
  return directory.write("e.yaml",
                         "name: tiny\nmodel: {path: " + kDemoModel + "}\n" +
                             R"(task: {name: sort, train: {limit: 6}, dev: {limit: 6}, test: {limit: 6}}
plan: {experts: 4, groups: 2}
search:
  population: 4
  dev_count: 2
  prune: {evaluations: 12, initial: 6}
  merge: {evaluations: 20}
baselines: [full, frequency]
)");
}

// Scores and plans of a finished run, without times.
std::string essence(const std::string& run) {
  std::string text = slurp(run + "/archive.jsonl") + slurp(run + "/plan.json");
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  for (const Json& method : result.at("methods"))
    text += method.at("name").dump() + method.at("test").dump() + "\n";
  return text;
}

// One whole line a generation, in order, up to the last evaluation.
void check_metrics(const std::string& run, int64_t evaluations) {
  std::istringstream lines(slurp(run + "/metrics.jsonl"));
  int64_t last = 0;
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    const int64_t done = parse_json(line, "metrics.jsonl").at("evaluations").get<int64_t>();
    CHECK(done > last);
    last = done;
  }
  CHECK(last == evaluations);
}

size_t entries(const std::string& path) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path)) ++count;
  return count;
}

Outcome with_full_stdout(const std::string& arguments) {
  TempDir scratch;
  const std::string command =
      std::string(EEP_PROGRAM) + " " + arguments + " >/dev/full 2>" + scratch("err") + " </dev/null";
  const int status = std::system(command.c_str());
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.err = slurp(scratch("err"));
  return outcome;
}

}  // namespace

TEST_CASE("damage: wrong usage is named on one line") {
  check_error(eep::test::eep({"prune"}), 2, "unknown command (expected one of inspect, doctor,");
  check_error(eep::test::eep({"prune"}), 2, "got prune)");
  check_error(eep::test::eep({"inspect", "no\nsuch\rmodel"}), 66, "no?such?model");
  check_error(eep::test::eep({"inspect", kGoldenModel, "two\nlines"}), 2, "two?lines");
  check_error(eep::test::eep({"doctor", "--threads", "0"}), 2, "--threads");
  check_error(eep::test::eep({"doctor", "--memory", "-1"}), 2, "--memory");
  check_error(eep::test::eep({"doctor", "--memory", "1e400"}), 2, "--memory");
  check_error(eep::test::eep({"doctor", "--cpu-target", "abacus"}), 2, "--cpu-target");
  check_error(eep::test::eep({"doctor", "--device", "cuda:1"}), 1, "--device cuda: ");
  check_error(eep::test::eep({"doctor", "--device", "cuda:x"}), 2, "not the number of a device");
  check_error(eep::test::eep({"doctor", "--seed", "many"}), 2, "--seed");
}

TEST_CASE("damage: a standard output that cannot be written is 74") {
  for (const std::string& command :
       {std::string("--help"), std::string("--version"), std::string("run --help"), std::string("doctor"),
        "inspect " + kGoldenModel, "generate " + kGoldenModel + " --ids 1 --max-new 2 --print-ids"}) {
    CAPTURE(command);
    check_error(with_full_stdout(command), 74, "stdout");
  }
}

TEST_CASE("damage: doctor tells what the contract lists") {
  const Json doctor = parse_json(eep::test::eep({"doctor", "--json", "--threads", "3"}).out, "doctor");
  CHECK(doctor.at("cpu").at("threads") == 3);
  CHECK(doctor.at("cpu").at("features").is_array());
  CHECK(doctor.at("gpus").is_array());
  CHECK(doctor.contains("driver"));
  for (const char* name : {"fmt", "nlohmann_json", "CLI11", "highway", "yaml-cpp", "utf8proc", "xxhash"}) {
    CAPTURE(name);
    const std::string version = doctor.at("libraries").at(name);
    CHECK(version.find('.') != std::string::npos);
  }
}

TEST_CASE("damage: ids that no vocabulary holds, and text without a tokenizer") {
  TempDir directory;
  for (const char* id : {"-1", "61", "2147483647", "2147483648", "99999999999999999999", "-99999999999"}) {
    CAPTURE(id);
    check_error(eep::test::eep({"logits", kGoldenModel, "--ids", id, "--out", directory("x")}), 65,
                "outside the vocabulary");
  }
  check_error(eep::test::eep({"logits", kGoldenModel, "--ids-file", directory.write("i.json", "[[1], [61]]"),
                              "--out", directory("x")}),
              65, "outside the vocabulary");
  check_error(eep::test::eep({"logits", kGoldenModel, "--ids-file", directory.write("e.json", "[[]]"),
                              "--out", directory("x")}),
              65, "e.json:1:");
  check_error(eep::test::eep({"logits", kGoldenModel, "--ids", "1", "--ids-file", directory("i.json"),
                              "--out", directory("x")}),
              2, "exactly one of");
  check_error(eep::test::eep({"generate", kGoldenModel, "--ids", "1 2"}), 66, "no tokenizer");
  check_error(eep::test::eep({"generate", kDemoModel, "--prompt", "a", "--chat"}), 2, "--chat");
  check_error(eep::test::eep({"tokenize", kGoldenModel, "--text", "a"}), 66, "no tokenizer");
  check_error(eep::test::eep({"tokenize", kDemoModel, "--text", "[1, 2", "--decode"}), 65, "ids:1:");
  CHECK(!std::filesystem::exists(directory("x")));
}

TEST_CASE("damage: calibrate and select leave no half file, and say what is wrong with theirs") {
  TempDir directory;
  const std::string scores = directory("scores.json"), plan = directory("plan.json");
  const std::vector<std::string> calibrate{"calibrate", kDemoModel,        "--task", "sort", "--limit",
                                           "4",         "--subset-tokens", "64",     "--out"};
  const auto with = [](std::vector<std::string> arguments, const std::string& last) {
    arguments.push_back(last);
    return arguments;
  };
  check_error(eep::test::eep(with(calibrate, directory("none/scores.json"))), 74, "none/scores.json");
  RunLimits full_disk;
  full_disk.file_size = 512;
  check_error(eep::test::eep(with(calibrate, scores), full_disk), 74, "scores.json");
  CHECK(entries(directory("")) == 0);
  REQUIRE(eep::test::eep(with(calibrate, scores)).code == 0);

  const auto select = [&](const std::string& file, const std::string& method, const std::string& experts,
                          const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"select",    file,    "--method", method,
                                       "--experts", experts, "--out",    plan};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return eep::test::eep(arguments);
  };
  check_error(select(scores, "reap", "9"), 2, "--experts");
  check_error(select(scores, "reap", "0"), 2, "--experts");
  check_error(select(scores, "magic", "4"), 2, "--method");
  check_error(select(scores, "reap", "4", {"--groups", "77"}), 2, "--groups");
  check_error(select(scores, "reap", "4", {"--groups", "some"}), 2, "--groups");
  check_error(select(directory("none.json"), "reap", "4"), 66, "none.json");
  check_error(select(directory.write("a.json", "{}"), "reap", "4"), 65, "a.json");
  check_error(select(directory.write("b.json", slurp(scores).substr(0, 300)), "reap", "4"), 65, "b.json:");
  CHECK(!std::filesystem::exists(plan));
  REQUIRE(select(scores, "reap", "4").code == 0);
  const std::vector<std::string> logits{"logits", kDemoModel,     "--ids", "1 2 3",
                                        "--out",  directory("l"), "--plan"};
  CHECK(eep::test::eep(with(logits, plan)).code == 0);
  // A plan for another model is refused by the hash that select wrote into it.
  check_error(eep::test::eep({"logits", kGoldenModel, "--ids", "1", "--out", directory("m"), "--plan", plan}),
              65, "plan.json");
  // The same seed draws the same experts, another one others (of C(8, 4)^layers).
  const auto draw = [&](const std::string& seed) {
    REQUIRE(select(scores, "random", "4", {"--seed", seed}).code == 0);
    return slurp(plan);
  };
  const std::string first = draw("1");
  CHECK(draw("1") == first);
  CHECK(draw("2") != first);
}

TEST_CASE("damage: --seed goes before the experiment's seed") {
  TempDir directory;
  const std::string file = tiny_experiment(directory);
  const Outcome given = eep::test::eep({"run", file, "--dry-run", "--seed", "7"});
  REQUIRE(given.code == 0);
  CHECK(given.out.find("seed: 7\n") != std::string::npos);
  CHECK(eep::test::eep({"run", file, "--dry-run"}).out.find("seed: 11450\n") != std::string::npos);
  CHECK(eep::test::eep({"run", file, "--dry-run", "--set", "seed=7"}).out.find("seed: 7\n") !=
        std::string::npos);
}

TEST_CASE("damage: --set and the option of the same field agree, or are refused") {
  TempDir directory;
  const std::string file = tiny_experiment(directory);
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"run", file, "--dry-run"});
    return eep::test::eep(more);
  };
  check_one_error(run({"--set", "seed=1", "--seed", "2"}), 2, "--seed: --set seed=1 is given too");
  check_one_error(run({"--set", "model.parity=none", "--parity", "hf"}), 2,
                  "--parity: --set model.parity=none");
  check_one_error(run({"--set", "model.precision=f32", "--precision", "bf16"}), 2, "--precision: --set");
  CHECK(run({"--set", "seed=2", "--seed", "2"}).out.find("seed: 2\n") != std::string::npos);
  const Outcome swept = run({"--set", "sweep.seed=[1, 2]", "--set", "seed=3", "--seed", "3"});
  CHECK(swept.code == 0);
  CHECK(swept.out.find("seed: 3\n") != std::string::npos);
  const std::string note = "seed: 3 in place of the sweep's values";
  CHECK(swept.err.find(note) != std::string::npos);
  CHECK(swept.err.find(note) == swept.err.rfind(note));  // once
}

TEST_CASE("damage: an experiment and its task are the same under every spelling of their paths") {
  TempDir directory;
  std::filesystem::create_directory(directory("sub"));
  const std::string file = tiny_experiment(directory), text = slurp(file);
  const std::string data = kSource + "/experiments/demo/data/sort/", task = directory("t.yaml");
  std::string rules = slurp(kSource + "/experiments/tasks/sort.yaml");
  for (size_t at = 0; (at = rules.find("../demo/data/sort/", at)) != std::string::npos; at += data.size())
    rules.replace(at, 18, data);
  directory.write("t.yaml", rules);
  std::string configuration;
  const std::pair<std::string, std::string> spellings[] = {{"t.yaml", file},
                                                           {"./t.yaml", directory("./e.yaml")},
                                                           {task, directory("sub/../e.yaml")},
                                                           {"sub/../t.yaml", file}};
  for (const auto& [name, spelled] : spellings) {
    std::string own = text;
    own.replace(own.find("name: sort"), 10, "name: " + name);
    directory.write("e.yaml", own);
    const Outcome made = eep::test::eep({"run", spelled, "--dry-run", "--json"});
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    const std::string config = parse_json(made.out, "dry run").at("config");
    if (configuration.empty()) configuration = config;
    CHECK(config == configuration);
  }
}

TEST_CASE("damage: what the model cannot do is found at its line of the experiment file") {
  TempDir directory;
  const std::string file = tiny_experiment(directory);  // plan is line 4, search line 5
  const auto found = [&](const std::string& set, const std::string& where, const std::string& what) {
    CAPTURE(set);
    std::string text = slurp(file);
    if (!set.empty()) text.replace(text.find("plan: {experts: 4, groups: 2}"), 29, set);
    check_one_error(eep::test::eep({"run", directory.write("bad.yaml", text), "--dry-run"}), 78,
                    directory("bad.yaml") + where + what);
  };
  found("plan: {experts: 9, groups: 2}", ":4:17: ", "plan.experts: more than the model has");
  found("plan: {experts: 4, groups: 7}", ":4:28: ", "plan.groups: impossible number of layer groups");
  found("plan: {experts: 4}\n\nsweep: {plan.groups: [1, 9]}", ":6:22: ", "plan.groups: impossible");
  found("plan: {experts: {total: 999}, groups: 1}", ":4:17: ", "plan.experts.total: more than all layers");
  found("plan: {experts: {total: 9, max: 9}, groups: 1}", ":4:17: ", "plan.experts.max: more than");
  found("plan: {experts: 2, groups: 1, top_k: 3}", ":4:38: ", "plan.top_k: more active than kept");
  check_one_error(eep::test::eep({"run", file, "--dry-run", "--set", "plan.experts=9"}), 78,
                  "--set plan.experts: plan.experts: more than the model has");
  check_one_error(eep::test::eep({"run", file, "--dry-run", "--set", "model.dtype=f16"}), 78,
                  "--set model.dtype: model.dtype: the checkpoint has another");
  check_one_error(eep::test::eep({"run", file, "--dry-run", "--set", "task.test.split=none"}), 78,
                  "--set task.test.split: task.test.split: task sort has no such split");
}

TEST_CASE("damage: a full disk, a held lock and torn files do not spoil a run") {
  TempDir directory;
  const std::string file = tiny_experiment(directory), whole = directory("whole"), run = directory("run");
  REQUIRE(eep::test::eep({"run", file, "--output", whole}).code == 0);
  const std::string expected = essence(whole);
  check_metrics(whole, 32);

  RunLimits full_disk;  // enough for the small files, not for the archive
  full_disk.file_size = static_cast<rlim_t>(std::filesystem::file_size(whole + "/archive.jsonl") * 2 / 3);
  check_error(eep::test::eep({"run", file, "--output", run}, full_disk), 74, "cannot write");
  CHECK(!std::filesystem::exists(run + "/result.json"));
  const Outcome resumed = eep::test::eep({"run", "--resume", run});
  CAPTURE(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK(essence(run) == expected);
  check_metrics(run, 32);

  {
    const int lock = ::open((run + "/.lock").c_str(), O_RDWR);
    REQUIRE(lock >= 0);
    REQUIRE(::flock(lock, LOCK_EX | LOCK_NB) == 0);
    check_error(eep::test::eep({"run", "--resume", run}), 1, "another run is using this directory");
    ::close(lock);
  }
  const auto spoil = [&](const std::string& name, const std::string& text) {
    const std::string before = slurp(run + "/" + name);
    std::ofstream(run + "/" + name, std::ios::binary) << text;
    const Outcome outcome = eep::test::eep({"run", "--resume", run});
    std::ofstream(run + "/" + name, std::ios::binary) << before;
    return outcome;
  };
  check_error(spoil("manifest.json", "{}"), 65, "manifest.json");
  check_error(spoil("manifest.json", "{"), 65, "manifest.json:1:2");
  check_error(spoil("manifest.json", R"({"model": {"hash": "xxh3:0"}})"), 65, "the model has changed");
  check_error(spoil("result.json", "{}"), 65, "result.json");
  check_error(spoil("result.json", R"({"format": "eep-result", "task": {"name": 1}})"), 65, "result.json");
  check_error(spoil("config.resolved.yaml", ""), 78, "config.resolved.yaml");

  // Torn text behind the last checkpoint is made again.
  std::filesystem::remove(run + "/result.json");
  check_error(spoil("checkpoints/search.state", "half"), 65, "search.state");
  std::ofstream(run + "/metrics.jsonl", std::ios::app) << R"({"phase": "mer)";
  std::ofstream(run + "/archive.jsonl", std::ios::app) << R"({"evaluation": 32, )";
  REQUIRE(eep::test::eep({"run", "--resume", run}).code == 0);
  CHECK(essence(run) == expected);
  check_metrics(run, 32);
  // Without its checkpoint a run starts again.
  std::filesystem::remove(run + "/result.json");
  std::filesystem::remove(run + "/checkpoints/search.state");
  REQUIRE(eep::test::eep({"run", "--resume", run}).code == 0);
  CHECK(essence(run) == expected);
  check_metrics(run, 32);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run))
    CHECK(entry.path().string().find(".tmp.") == std::string::npos);
}
