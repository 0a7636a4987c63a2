// Jobs that are told to leave: every signal, in every phase, and the command that is started once more.
#include <doctest/doctest.h>

#include "engine/calibration.h"
#include "engine/weights.h"
#include "experiments/study/calibration_progress.h"
#include "experiments/study/evaluation_journal.h"
#include "kernels/common/interrupt.h"
#include "loaders/models/checkpoint.h"
#include "tests/experiments/small_run.h"
#include "tests/experiments/sparse_model.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("jobs: any of the signals at any moment ends the run with 130, and the same command goes on") {
  TempDir directory;
  const std::string file = small_run(directory), whole = directory("whole");
  const int64_t duration = microseconds_of([&] {
    REQUIRE(eep::test::eep({"run", file, "--output", whole, "--resume-if-there"}).code == 0);
  });
  const std::string expected = run_bytes(whole);
  const std::string run = directory("run");
  int number = 0;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP}) {
    for (int moment = 1; moment <= 2; ++moment, ++number) {
      CAPTURE(signal);
      CAPTURE(moment);
      RunLimits limits;
      limits.signal = signal;
      // How long a run takes is the machine's other programs' affair: the clock starts when the program has
      // its directory, and a signal that came too late is sent earlier.
      limits.once_there = run + "/config.resolved.yaml";
      limits.microseconds = duration * (2 * number + 1) / 20;
      Outcome first;
      for (first.code = 0; first.code == 0 && limits.microseconds > 0; limits.microseconds /= 2) {
        std::filesystem::remove_all(run);
        first = eep::test::eep({"run", file, "--output", run, "--resume-if-there"}, limits);
      }
      CAPTURE(first.err);
      CHECK(first.code == 130);
      const Outcome second = eep::test::eep({"run", file, "--output", run, "--resume-if-there"});
      CAPTURE(second.err);
      REQUIRE(second.code == 0);
      CHECK(run_bytes(run) == expected);
    }
  }
}

TEST_CASE("jobs: an interrupt leaves within two seconds, and each start does a part of the work") {
  TempDir directory;
  const std::string file = small_run(directory), whole = directory("whole"), run = directory("run");
  const int64_t duration = microseconds_of([&] {
    REQUIRE(eep::test::eep({"run", file, "--output", whole}).code == 0);
  });
  RunLimits limits;
  limits.signal = SIGTERM;
  int code = 130, starts = 0;
  for (; code == 130 && starts < 60; ++starts) {
    limits.microseconds = duration / 3 + duration * starts / 20;  // a machine may be slower now
    const int64_t took = microseconds_of([&] {
      code = eep::test::eep({"run", file, "--output", run, "--resume-if-there"}, limits).code;
    });
    CHECK(took - limits.microseconds < 2000000 * waiting_programs());
  }
  CHECK(code == 0);
  CHECK(starts > 1);
  CHECK(run_bytes(run) == run_bytes(whole));
}

TEST_CASE("jobs: the same command starts a run and finds it done; a changed configuration is refused") {
  TempDir directory;
  const std::string file = small_run(directory), run = directory("run");
  const std::vector<std::string> command{"run", file, "--output", run, "--resume-if-there"};
  const Outcome first = eep::test::eep(command);
  REQUIRE(first.code == 0);
  const auto written = std::filesystem::last_write_time(run + "/result.json");
  // What a run that was killed while it wrote leaves behind goes with the next start; others' files stay.
  directory.write("run/plans/full.json.tmp.4711.0", "{");
  directory.write("run/plans/notes.tmp.txt", "mine");
  const Outcome again = eep::test::eep(command);
  CHECK(again.code == 0);
  CHECK(!std::filesystem::exists(run + "/plans/full.json.tmp.4711.0"));
  CHECK(std::filesystem::exists(run + "/plans/notes.tmp.txt"));
  CHECK(again.out == first.out);
  CHECK(again.err.find("done already") != std::string::npos);
  CHECK(std::filesystem::last_write_time(run + "/result.json") == written);
  std::vector<std::string> changed = command;
  changed.insert(changed.end(), {"--set", "search.merge.sigma=0.1"});
  const Outcome refused = eep::test::eep(changed);
  CHECK(refused.code == 78);
  CHECK(refused.err.find("expected sigma: 0.065, got sigma: 0.1") != std::string::npos);
  CHECK(eep::test::eep({"run", file, "--resume-if-there"}).code == 2);
  // What a job that was killed before its first file leaves behind.
  std::filesystem::create_directory(directory("empty"));
  CHECK(eep::test::eep({"run", file, "--output", directory("empty"), "--resume-if-there"}).code == 0);
}

TEST_CASE("jobs: every command leaves at a signal with 130 and one line, whatever it was at") {
  const TempDir directory;
  const std::string scores = directory("s.json"), text = directory.write("text.txt", "Sort: d b a c\n");
  const std::vector<std::vector<std::string>> commands{
      {"profile", kDemoModel, "--repeat", "1000"},
      {"generate", kDemoModel, "--prompt", "Sort: b a", "--ignore-eos", "--max-new", "100"},
      {"tokenize", kDemoModel, "--file", text},
      {"inspect", kDemoModel},
      {"doctor", kDemoModel},
      {"calibrate", kDemoModel, "--task", "sort", "--out", scores}};
  int stopped = 0;
  for (const std::vector<std::string>& command : commands) {
    for (const int signal : {SIGTERM, SIGINT}) {
      CAPTURE(command[0]);
      RunLimits limits;
      limits.signal = signal;
      limits.microseconds = command[0] == "profile" || command[0] == "calibrate" ? 150000 : 12000;
      Outcome outcome;
      const int64_t took = microseconds_of([&] { outcome = eep::test::eep(command, limits); });
      CAPTURE(outcome.err);
      CHECK(took - limits.microseconds < 2000000 * waiting_programs());
      if (outcome.code == 0 || outcome.code == -signal) continue;  // done before, or not begun
      CHECK(outcome.code == 130);
      CHECK(outcome.err.ends_with("interrupted\n"));
      ++stopped;
    }
  }
  CHECK(stopped >= 2);  // profile
}

TEST_CASE("jobs: a second signal ends at once; an ignored hang-up stays ignored") {
  TempDir directory;
  const std::string file = small_run(directory), run = directory("run");
  RunLimits limits;
  limits.signal = SIGTERM;
  limits.microseconds = 150000;
  limits.times = 2;
  const Outcome outcome = eep::test::eep({"run", file, "--output", run}, limits);
  CHECK(outcome.code == 130);
  limits = {};
  limits.signal = SIGHUP;
  limits.microseconds = 300000;
  limits.launcher = {"nohup"};
  CHECK(eep::test::eep({"run", file, "--output", directory("nohup")}, limits).code == 0);
}

TEST_CASE("jobs: an export that is told to leave does so, and leaves no directory") {
  TempDir directory;
  SparseModel model;
  model.intermediate_size = 64 * 1024;  // 0.8 GB in eight layers
  model.num_layers = 8;
  model.num_experts = 4;
  if (!model.write(directory, "model")) return;
  std::string groups;
  for (int layer = 0; layer < 8; ++layer) groups += (layer == 0 ? "" : ", ") + std::to_string(layer);
  const std::string plan = directory.write(
      "plan.json",
      R"({"format": "eep-plan", "version": 1, "model": {"family": "mixtral", "layers": 8, "experts": 4},
"top_k": 1, "router_space": "logits", "groups": [{"layers": [)" +
          groups + R"(], "router_mapping": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
"expert_merging": [[0.5, 0.25, 0.25, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}]})");
  RunLimits limits;
  limits.signal = SIGUSR1;
  limits.microseconds = 150000;
  int code = 0;
  const int64_t took = microseconds_of([&] {
    code = eep::test::eep({"export", directory("model"), "--plan", plan, "--out", directory("out")}, limits)
               .code;
  });
  CHECK(code == 130);
  CHECK(took < limits.microseconds + 2000000 * waiting_programs());
  CHECK(!std::filesystem::exists(directory("out")));
  CHECK(!std::filesystem::exists(directory("out.partial")));
}

namespace {

Prompts calibration_prompts() {
  PromptBuilder builder;
  for (int32_t sequence = 0; sequence < 96; ++sequence) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 9 + sequence % 4; ++i)
      tokens.push_back((sequence * 7 + i * (3 + sequence / 32)) % 32);
    builder.add(tokens, static_cast<int32_t>(tokens.size()), /*predict_next=*/true);
  }
  return builder.build(nullptr);
}

bool same(const ExpertStatistics& a, const ExpertStatistics& b) {
  if (a.tokens != b.tokens || a.layers.size() != b.layers.size()) return false;
  for (size_t layer = 0; layer < a.layers.size(); ++layer) {
    if (a.layers[layer].sums != b.layers[layer].sums) return false;
    if (a.layers[layer].matrices != b.layers[layer].matrices) return false;
    for (size_t i = 0; i < a.layers[layer].subset_errors.size(); ++i) {
      if (a.layers[layer].subset_errors[i].error != b.layers[layer].subset_errors[i].error) return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("jobs: calibration goes on from any chunk to the same bits, at another memory limit too") {
  const RawModel raw = load_checkpoint(kDemoModel);
  const Weights weights(raw, cpu_ops());
  const Prompts prompts = calibration_prompts();
  CalibrationOptions options;
  options.subset_kept = {4};
  options.subset_tokens = 150;
  options.details = options.every_expert = true;
  const ExpertStatistics expected = calibrate(weights, 0, prompts, options);

  std::vector<std::string> states;
  CalibrationOptions keeping = options;
  keeping.keep = [&](const std::function<CalibrationState()>& state) {
    states.push_back(write_calibration_state(state(), "it"));
  };
  // The least that is enough: the smallest chunks, beside as many resident layers as leave room for one.
  size_t little = weights.plan().device_bytes();
  for (bool enough = false; !enough; little += 100000) {
    try {
      calibrate(weights, little + 100000, prompts, options);
      enough = true;
    } catch (const Error&) {
    }
  }
  CHECK(same(calibrate(weights, little, prompts, keeping), expected));
  REQUIRE(states.size() > 3);
  for (size_t at = 0; at < states.size(); ++at) {
    CAPTURE(at);
    CalibrationOptions resuming = options;
    bool read = false;
    resuming.begin = [&](CalibrationState* state) { read = read_calibration_state(states[at], "it", state); };
    CHECK(same(calibrate(weights, at % 2 == 0 ? 0 : little, prompts, resuming), expected));
    CHECK(read);
  }
  // Another pass's state, or a damaged one, is as good as none.
  CalibrationState state;
  CHECK_FALSE(read_calibration_state(states[1], "another", &state));
  std::string damaged = states[1];
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
  CHECK_FALSE(read_calibration_state(damaged, "it", &state));
  CHECK_FALSE(read_calibration_state(std::string_view(states[1]).substr(0, 40), "it", &state));
}

TEST_CASE("jobs: a journal knows what was kept, and drops a record that was cut anywhere") {
  TempDir directory;
  const std::string path = directory("journal");
  const EvaluationJournal::Key one{1, 2}, other{1, 3};
  const std::vector<TokenScore> scores{{-0.5f, 3}, {-1.5f, 4}, {-2.5f, 5}};
  const std::vector<int32_t> tokens{7, 8};
  {
    EvaluationJournal journal(path);
    journal.add_scores(one, 4, scores);
    journal.add_answer(one, 9, tokens);
    journal.add_scores(other, 0, scores);
    journal.flush();
  }
  const std::string bytes = slurp(path);
  std::vector<TokenScore> read(3);
  const auto check_first = [&](const EvaluationJournal& journal) {
    if (!journal.known_scores(one, 4, read)) return false;
    return read[2].log_probability == -2.5f && read[2].argmax == 5;
  };
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    directory.write("journal", bytes.substr(0, cut));
    EvaluationJournal journal(path);
    CHECK(journal.known_scores(other, 0, read) == (cut == bytes.size()));
    const uintmax_t left = std::filesystem::file_size(path);
    CHECK(left <= cut);
    if (left > 60) CHECK(check_first(journal));
    CHECK_FALSE(journal.known_scores(one, 3, read));
    CHECK_FALSE(journal.known_scores(one, 5, read));
  }
  EvaluationJournal journal(path);
  REQUIRE(journal.known_answer(one, 9) != nullptr);
  CHECK(*journal.known_answer(one, 9) == tokens);
  CHECK(journal.known_answer(one, 8) == nullptr);
  // Another rank learns the records of one plan.
  std::string sent;
  EvaluationJournal there([&](std::string records) { sent += records; });
  there.learn(journal.known_records(one));
  CHECK(check_first(there));
  CHECK(there.known_answer(one, 9) != nullptr);
  CHECK_FALSE(there.known_scores(other, 0, read));
  there.add_answer(other, 1, tokens);
  there.flush();
  journal.add_records(sent);
  journal.flush();
  CHECK(EvaluationJournal(path).known_answer(other, 1) != nullptr);
  journal.clear();
  CHECK(std::filesystem::file_size(path) == 0);
}
