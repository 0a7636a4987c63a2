// A model's layers over several ranks: the bytes of runs with one, alone and beside a division of the
// population.
#include <doctest/doctest.h>

#include <csignal>

#include "experiments/study/rank_messages.h"
#include "experiments/study/stage_link.h"
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

TEST_CASE("pipeline: MPI is given a GPU's memory where it says that it can read it, or as the user says") {
  const auto way = [](DeviceKind device, const char* aware, const char* setting) {
    return device_rows_to_mpi(device, aware, setting);
  };
  for (const char* setting : {static_cast<const char*>(nullptr), "auto"}) {
    CHECK(way(DeviceKind::kCuda, "yes", setting));
    for (const char* aware : {"no", "not known"}) CHECK_FALSE(way(DeviceKind::kCuda, aware, setting));
    for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimt}) {
      for (const char* aware : {"yes", "no", "not known"}) CHECK_FALSE(way(device, aware, setting));
    }
  }
  for (const char* aware : {"yes", "no", "not known"}) {
    for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimt, DeviceKind::kCuda})
      CHECK_FALSE(way(device, aware, "off"));
    // memory that is the host's, whatever MPI says
    for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimt}) CHECK(way(device, aware, "on"));
  }
  for (const char* aware : {"yes", "not known"}) CHECK(way(DeviceKind::kCuda, aware, "on"));
  CHECK_THROWS_WITH_AS(way(DeviceKind::kCuda, "no", "on"),
                       "EEP_MPI_DEVICE: this MPI cannot read a GPU's memory (expected a CUDA-aware one, or "
                       "off; got on)",
                       Error);
  CHECK_THROWS_WITH_AS(way(DeviceKind::kCpu, "no", "yes"),
                       "EEP_MPI_DEVICE: unknown word (expected auto, on or off, got yes)", Error);
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
    for (const std::pair<int, int>& division :
         {std::pair{2, 2}, std::pair{3, 3}, std::pair{4, 2}, std::pair{6, 2}}) {
      const int ranks = division.first, stages = division.second;
      CAPTURE(ranks);
      const std::string run = directory(task + std::to_string(ranks));
      RunLimits limits = on_ranks(ranks);
      limits.variables = {{"EEP_MPI_DEVICE", task == std::string("sort") ? "on" : "off"}};
      const Outcome outcome = eep::test::eep({"run", file, "--output", run, "--threads", "1", "--pipeline",
                                              std::to_string(stages), "--share-device"},
                                             limits);
      CAPTURE(outcome.err);
      REQUIRE(outcome.code == 0);
      CHECK(run_bytes(run) == run_bytes(one));
      CHECK(calibrations(run) == calibrations(one));
    }
  }
}

TEST_CASE("pipeline: rows of a device with memory of its own go through the host's, or as they lie") {
  TempDir directory;
  const std::string file = small_run(directory), one = directory("one");
  const auto command = [&](const std::string& run) {
    std::vector<std::string> words{"run", file, "--output", run, "--device", "simt", "--threads", "1"};
    for (const char* set : {"task.train.limit=2", "task.dev.limit=1", "task.test.limit=1",
                            "search.population=2", "search.prune.evaluations=2", "search.prune.initial=2",
                            "search.dev_count=1", "search.merge.evaluations=1", "baselines=[full]"})
      words.insert(words.end(), {"--set", set});
    return words;
  };
  REQUIRE(eep::test::eep(command(one)).code == 0);
  for (const std::string setting : {"off", "on"}) {
    CAPTURE(setting);
    const std::string run = directory(setting);
    std::vector<std::string> words = command(run);
    words.insert(words.end(), {"--pipeline", "2"});
    RunLimits limits = on_ranks(2);
    limits.variables = {{"EEP_MPI_DEVICE", setting}};
    const Outcome outcome = eep::test::eep(words, limits);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(run_bytes(run) == run_bytes(one));
  }
  RunLimits limits = on_ranks(2);
  limits.variables = {{"EEP_MPI_DEVICE", "yes"}};
  const Outcome refused =
      eep::test::eep({"run", file, "--output", directory("refused"), "--pipeline", "2"}, limits);
  CHECK(refused.code == 2);
  CHECK(refused.err.find("EEP_MPI_DEVICE: unknown word (expected auto, on or off, got yes)") !=
        std::string::npos);
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
    limits.variables = {{"EEP_MPI_DEVICE", moment <= 2 ? "on" : "off"}};
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
