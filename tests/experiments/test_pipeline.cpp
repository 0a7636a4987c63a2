// A model's layers over several ranks: the bytes of runs with one, alone and beside a division of the
// population.
#include <doctest/doctest.h>

#include <csignal>

#include "experiments/study/rank_messages.h"
#include "tests/experiments/small_run.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("pipeline: what the first stage tells the others arrives as it was sent, or not at all") {
  StageRequest request;
  request.kind = StageRequest::Kind::kCalibrate;
  request.combination = 3;
  request.room = 1u << 20;
  ExpertPlan plan;
  plan.top_k = 2;
  plan.groups = {one_hot_group({0, 3}, {1, 2}, 4)};
  request.plans = {plan, plan};
  PromptBuilder builder;
  builder.add(std::vector<int32_t>{1, 2, 3}, 2);
  builder.add(std::vector<int32_t>{1, 2, 4, 5}, 2, true);
  request.prompts = builder.build(nullptr);
  request.calibration.sums.subset_kept = {2, 3};
  request.calibration.sums.subset_tokens = 7;
  request.calibration.sums.subset_batch = 8;
  request.calibration.sums.max_exhaustive = 9;
  request.calibration.sums.details = true;
  request.calibration.subsets = {{{{0, 1}, {2, 3}}, {}}, {{}, {{0, 1, 2}}}};
  const std::string bytes = stage_request_bytes(request);
  const StageRequest read = stage_request_of(bytes);
  CHECK(stage_request_bytes(read) == bytes);
  CHECK(read.plans[1] == plan);
  CHECK(read.prompts.tokens == request.prompts.tokens);
  CHECK(read.prompts.nodes.size() == request.prompts.nodes.size());
  CHECK(read.calibration.subsets == request.calibration.subsets);
  CHECK(read.calibration.sums.details);
  CHECK_FALSE(read.calibration.sums.every_expert);
  for (size_t cut = 0; cut < bytes.size(); cut += 5)
    CHECK_THROWS_AS(stage_request_of(std::string_view(bytes).substr(0, cut)), Error);
}

TEST_CASE("pipeline: the dry run says which layers each stage has; impossible stages are refused") {
  TempDir directory;
  const std::string file = small_run(directory);
  const Outcome dry = eep::test::eep({"run", file, "--dry-run", "--pipeline", "2"});
  CAPTURE(dry.err);
  CHECK(dry.code == 0);
  CHECK(dry.out.find("pipeline: layers 0..1 with ") != std::string::npos);
  // As a run cuts them: of prompts that share their first token, each of five plans alone.
  CHECK(dry.out.find(", 5 chunks a generation: stages wait 17 % of their time") != std::string::npos);
  // What inspect says, in words and numbers.
  const size_t first = dry.out.find("pipeline: ") + 10;
  const std::string shares = dry.out.substr(first, dry.out.find(" MB, at most") + 3 - first);
  const Outcome inspected = eep::test::eep({"inspect", kDemoModel, "--pipeline", "2"});
  CHECK(inspected.code == 0);
  CHECK(inspected.out.find("stages, cpu   " + shares + "\n") != std::string::npos);
  const Outcome numbers = eep::test::eep({"inspect", kDemoModel, "--pipeline", "2", "--json"});
  const Json stages = parse_json(numbers.out, "inspect").at("pipeline").at("cpu");
  REQUIRE(stages.size() == 2);
  CHECK(stages[0].at("first_layer") == 0);
  CHECK(stages[0].at("last_layer").get<int>() + 1 == stages[1].at("first_layer").get<int>());
  CHECK(stages[1].at("last_layer") == 3);
  CHECK(eep::test::eep({"inspect", kDemoModel, "--pipeline", "5"}).code == 2);
  const Outcome deep = eep::test::eep({"run", file, "--dry-run", "--pipeline", "5"});
  CHECK(deep.code == 2);
  CHECK(deep.err.find("--pipeline: more stages than layers (expected 1..4, got 5)") != std::string::npos);
  const Outcome alone = eep::test::eep({"run", file, "--output", directory("run"), "--pipeline", "2"});
  CHECK(alone.code == 2);
  CHECK(alone.err.find("--pipeline: needs as many ranks, or a multiple (expected 2, 4, ..., got 1)") !=
        std::string::npos);
}

#ifdef EEP_HAVE_MPI

TEST_CASE("pipeline: two and three stages, and two beside two, write the bytes of one rank") {
  TempDir directory;
  for (const char* task : {"sort", "cause"}) {
    CAPTURE(task);
    const std::string file = small_run(directory, "", task), one = directory(std::string(task) + "1");
    REQUIRE(eep::test::eep({"run", file, "--output", one}).code == 0);
    for (const std::pair<int, int>& division : {std::pair{2, 2}, std::pair{3, 3}, std::pair{4, 2}}) {
      const int ranks = division.first, stages = division.second;
      CAPTURE(ranks);
      const std::string run = directory(task + std::to_string(ranks));
      const Outcome outcome = eep::test::eep({"run", file, "--output", run, "--threads", "1", "--pipeline",
                                              std::to_string(stages), "--share-device"},
                                             on_ranks(ranks));
      CAPTURE(outcome.err);
      REQUIRE(outcome.code == 0);
      CHECK(run_bytes(run) == run_bytes(one));
    }
  }
}

TEST_CASE("pipeline: killed or told to leave at any moment, a run goes on with other stages, or none") {
  TempDir directory;
  const std::string file = small_run(directory), whole = directory("whole"), run = directory("run");
  std::vector<std::string> command{"run",       file, "--output",   run, "--resume-if-there",
                                   "--threads", "1",  "--pipeline", "2"};
  REQUIRE(eep::test::eep({"run", file, "--output", whole, "--threads", "1"}).code == 0);
  const int64_t duration = microseconds_of([&] { REQUIRE(eep::test::eep(command, on_ranks(2)).code == 0); });
  const std::string expected = run_bytes(whole);
  CHECK(run_bytes(run) == expected);
  for (int moment = 1; moment <= 4; ++moment) {
    CAPTURE(moment);
    std::filesystem::remove_all(run);
    RunLimits limits = on_ranks(2);
    limits.signal = moment % 2 == 0 ? SIGUSR1 : SIGKILL;
    limits.microseconds = duration * moment / 5;
    const Outcome first = eep::test::eep(command, limits);
    CAPTURE(first.err);
    command.back() = moment % 2 == 0 ? "1" : "3";
    Outcome second;
    for (int wait = 0; wait < 100; ++wait) {
      second = eep::test::eep(command, moment % 2 == 0 ? RunLimits{} : on_ranks(3));
      if (second.err.find("another run is using") == std::string::npos) break;
      ::usleep(100000);
    }
    command.back() = "2";
    CAPTURE(second.err);
    REQUIRE(second.code == 0);
    CHECK(run_bytes(run) == expected);
  }
}

TEST_CASE("pipeline: a stage that cannot open the model ends the run with its name") {
  TempDir directory;
  const std::string file = small_run(directory);
  std::string text = slurp(file);
  text.replace(text.find(kDemoModel), kDemoModel.size(), directory("nowhere"));
  const std::string other = directory.write("other.yaml", text);
  const Outcome outcome =
      eep::test::eep({"run", file, "--output", directory("run"), "--pipeline", "2", ":", "-n", "1",
                      EEP_PROGRAM, "run", other, "--output", directory("run"), "--pipeline", "2"},
                     on_ranks(1));
  CAPTURE(outcome.err);
  CHECK(outcome.code == 66);
  CHECK(outcome.err.find("eep: error: rank 1 (") != std::string::npos);
}

#endif
