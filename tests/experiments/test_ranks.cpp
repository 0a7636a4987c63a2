// Runs over several ranks: the division of work, how the program learns where it is, and, where MPI is built,
// the bytes of runs with two and three ranks, whatever happens to one of them.
#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <numeric>
#include <thread>

#include "experiments/ranks/launch.h"
#include "experiments/ranks/ranks.h"
#include "experiments/study/division.h"
#include "experiments/study/rank_messages.h"
#include "kernels/common/interrupt.h"
#include "tests/experiments/small_run.h"

using namespace eep;
using namespace eep::test;

namespace {

Environment environment(const std::map<std::string, std::string>& variables) {
  return [variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

}  // namespace

TEST_CASE("ranks: every plan and item is in one part, and parts cost what their ranks can do") {
  for (const size_t plans : {1u, 2u, 3u, 5u, 17u, 64u}) {
    for (const int64_t items : {1, 2, 7, 100}) {
      for (const std::vector<double>& speed : {std::vector<double>{1},
                                               {1, 1},
                                               {1, 1, 1},
                                               {2, 1},
                                               {0.5, 1, 1.5, 1},
                                               std::vector<double>(64, 1.0)}) {
        CAPTURE(plans);
        CAPTURE(items);
        CAPTURE(speed.size());
        std::vector<double> cost;
        for (size_t plan = 0; plan < plans; ++plan)
          cost.push_back(plan % 5 == 0 ? 4 : 1 + 0.5 * double(plan % 3));
        const auto parts = divide_work(cost, items, speed);
        REQUIRE(parts.size() == speed.size());
        std::vector<int> seen(plans * static_cast<size_t>(items), 0);
        double largest = 0;
        for (size_t rank = 0; rank < parts.size(); ++rank) {
          double own = 0;
          for (const WorkPart& part : parts[rank]) {
            own += part.cost;
            for (size_t plan = part.first; plan < part.end; ++plan) {
              for (int64_t item = part.item_begin; item < part.item_end; ++item)
                ++seen[plan * static_cast<size_t>(items) + static_cast<size_t>(item)];
            }
          }
          largest = std::max(largest, own / speed[rank]);
        }
        CHECK(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
        const double all = std::accumulate(cost.begin(), cost.end(), 0.0) * double(items);
        const double speeds = std::accumulate(speed.begin(), speed.end(), 0.0);
        // Cuts are rounded to a whole plan, or to an item where there are few plans: one at each end.
        const bool whole = plans >= 4 * speed.size() || items < 2;
        const double rounding = 4 * (whole ? double(items) : 1.0);
        const double slowest = *std::min_element(speed.begin(), speed.end());
        CHECK(largest <= all / speeds + rounding / slowest);
      }
    }
  }
}

TEST_CASE("ranks: a calibration text is cut between trees into equal parts, those that cost more apart") {
  std::vector<std::vector<int32_t>> sequences;
  for (size_t i = 0; i < 40; ++i) sequences.emplace_back(5 + i * 7 % 11, 1);
  const Prompts text = side_by_side(sequences);
  const int64_t rows = text.rows();
  std::vector<int64_t> bounds{rows};
  for (const PromptNode& node : text.nodes) bounds.push_back(node.row_begin);
  for (const int ranks : {1, 2, 3, 7, 64}) {
    for (const int64_t dense : {int64_t{0}, int64_t{100}, int64_t{100000}}) {
      for (const int64_t most : {int64_t{60}, int64_t{4096}}) {
        for (const int64_t first : {int64_t{0}, int64_t{text.nodes[7].row_begin}, rows}) {
          CAPTURE(ranks);
          CAPTURE(dense);
          CAPTURE(most);
          CAPTURE(first);
          const std::vector<int64_t> ends = divide_text(text, first, dense, ranks, most);
          CHECK(ends.empty() == (first == rows));
          if (ends.empty()) continue;
          CHECK(ends.back() == rows);
          int64_t begin = first;
          for (const int64_t end : ends) {
            CHECK(end > begin);
            CHECK(std::find(bounds.begin(), bounds.end(), end) != bounds.end());
            CHECK(end - begin <= most + 15);  // half of the longest sequence at either end
            // ... beside an even share of those that cost more, or of the others
            const int64_t region = begin < dense ? std::min(dense, rows) - first : rows - first;
            CHECK(end - begin <= region / ranks + 1 + 15);
            begin = end;
          }
        }
      }
    }
  }
}

TEST_CASE("ranks: plans that agree on early layers are neighbours, and cost what they do not share") {
  ModelConfig config;
  config.num_layers = 4;
  config.num_experts = 4;
  config.top_k = 1;
  config.sparse = {1, 1, 1, 1};
  std::vector<ExpertPlan> plans;
  for (const std::vector<int32_t>& second : {std::vector<int32_t>{0, 1}, {2, 3}, {0, 1}}) {
    for (const std::vector<int32_t>& first : {std::vector<int32_t>{0, 2}, {1, 3}}) {
      ExpertPlan plan;
      plan.top_k = 1;
      plan.groups = {one_hot_group({0, 1}, first, 4), one_hot_group({2, 3}, second, 4)};
      plans.push_back(plan);
    }
  }
  const SharedOrder order = order_for_sharing(config, plans);
  CHECK(order.plan == std::vector<size_t>{0, 4, 2, 1, 5, 3});
  CHECK(order.cost == std::vector<double>{4, 0.25, 2, 4, 0.25, 2});
}

TEST_CASE("ranks: speeds follow what was measured, within bounds") {
  RankSpeeds speeds(3);
  speeds.measured(std::vector<double>{1, 1, 0}, std::vector<double>{1, 1, 0});
  CHECK(speeds.speeds() == std::vector<double>{1, 1, 1});
  for (int i = 0; i < 20; ++i) speeds.measured(std::vector<double>{3, 1, 1}, std::vector<double>{1, 1, 1});
  CHECK(speeds.speeds()[0] == doctest::Approx(1.8));
  CHECK(speeds.speeds()[1] == doctest::Approx(0.6));
  speeds.measured(std::vector<double>{1000, 1, 1}, std::vector<double>{0.001, 1, 1});  // too short to tell
  CHECK(speeds.speeds()[0] == doctest::Approx(1.8));
}

TEST_CASE("ranks: the environment of every launcher says how many ranks there are and which is this") {
  CHECK(launched_ranks(environment({})) == 1);
  CHECK(launched_ranks(environment({{"OMPI_COMM_WORLD_SIZE", "4"}})) == 4);
  CHECK(launched_ranks(environment({{"PMI_SIZE", "3"}})) == 3);
  CHECK(launched_ranks(environment({{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_PROCID", "7"}})) == 8);
  CHECK(launched_ranks(environment({{"SLURM_NTASKS", "8"}})) == 1);  // a script of the job
  CHECK(launched_ranks(environment({{"OMPI_COMM_WORLD_SIZE", "nonsense"}})) == 1);
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK",
                           "PMI_LOCAL_RANK", "SLURM_LOCALID", "LOCAL_RANK"})
    CHECK(launched_local_rank(environment({{name, "2"}})) == 2);
  CHECK(launched_local_rank(environment({})) == -1);
  check_slurm_tasks(environment({}), 1);
  check_slurm_tasks(environment({{"SLURM_NTASKS", "2"}}), 2);
  CHECK_THROWS_AS(check_slurm_tasks(environment({{"SLURM_NTASKS", "2"}}), 1), Error);
  CHECK_THROWS_AS(check_slurm_tasks(environment({{"SLURM_NTASKS", "2"}}), 3), Error);
}

TEST_CASE("ranks: a rank takes the one device that it sees, or its own of several; processors are shared") {
  for (const int local : {0, 1, 7}) CHECK(device_of_rank(local, 1) == 0);  // Slurm shows each task its own
  CHECK(device_of_rank(3, 4) == 3);
  CHECK(device_of_rank(5, 4) == 1);
  CHECK(threads_of_rank(16, 16, 4) == 4);
  CHECK(threads_of_rank(4, 16, 4) == 4);  // bound by the launcher
  CHECK(threads_of_rank(2, 2, 3) == 1);

  std::vector<RankFacts> facts(2);
  facts[0].host = facts[1].host = "n1";
  check_devices(facts, false);  // processors
  facts[0].device_id = facts[1].device_id = "ab";
  CHECK_THROWS_AS(check_devices(facts, false), Error);
  check_devices(facts, true);
  facts[1].host = "n2";
  check_devices(facts, false);
  // Each pair of a host is looked at; what its driver calls a GPU does not matter.
  facts.resize(4);
  facts[2].host = "n1", facts[2].device_id = "cd", facts[2].device = "cuda:0 A";
  facts[3].host = "n2", facts[3].device_id = "cd", facts[3].device = "cuda:0 A";
  check_devices(facts, false);
  facts[3].host = "n1", facts[3].device = "cuda:1 A";
  CHECK_THROWS_WITH_AS(check_devices(facts, false),
                       "--device: ranks 2 and 3 on n1 have one GPU, cuda:1 A (expected one each)", Error);
  check_devices(facts, true);
}

TEST_CASE("ranks: work and results arrive as they were sent") {
  RankWork work;
  work.number = 3;
  work.combination = 2;
  work.set = 1;
  work.model = "xxh3:1";
  work.data = "xxh3:2";
  work.known = std::string("\0bytes", 6);
  ExpertPlan plan;
  plan.top_k = 2;
  plan.router_space = RouterSpace::kProbabilities;
  plan.groups = {one_hot_group({0, 3}, {1, 2}, 4), one_hot_group({1}, {0}, 4)};
  plan.groups[0].skip_below = {0.5f, 0};
  work.parts = {{{plan, plan}, {4, 5}}, {{plan}, {}}};
  const std::string bytes = work_bytes(work);
  const RankWork read = work_of(bytes);
  CHECK(work_bytes(read) == bytes);
  CHECK(read.parts[0].plans[1] == plan);
  CHECK(read.parts[0].items == std::vector<int32_t>{4, 5});
  CHECK(read.known == work.known);
  RankResult result;
  result.number = 3;
  result.seconds = 0.5;
  result.work.tokens_computed = 7;
  result.work.router.negative_sums = 2;
  ItemScore item;
  item.metric = 0.25;
  item.right_loglik = -1.5;
  item.prediction = 1;
  item.output = {5, 6};
  item.log_probabilities = {-0.5f};
  item.right = 1;
  item.decided = false;
  result.items = {{{item, item}}, {{item}}};
  const std::string text = result_bytes(result);
  CHECK(result_bytes(result_of(text)) == text);
  CHECK(result_of(text).items[0][0][1].output == item.output);
  CalibrationWork calibration;
  calibration.combination = 4;
  calibration.model = "xxh3:3";
  calibration.request.sums.subset_kept = {2};
  calibration.request.subsets = {{{{0, 1}}}};
  const std::string begun = calibration_work_bytes(calibration);
  CHECK(calibration_work_bytes(calibration_work_of(begun)) == begun);
  CHECK(calibration_work_of(begun).request.subsets == calibration.request.subsets);
  CalibrationPart part;
  part.number = 5;
  part.next = 2;
  part.here = true;
  part.prompts = side_by_side(std::vector<std::vector<int32_t>>{{1, 2}, {3}});
  const std::string text_part = calibration_part_bytes(part);
  CHECK(calibration_part_bytes(calibration_part_of(text_part)) == text_part);
  CHECK(calibration_part_of(text_part).here);
  CHECK(calibration_part_of(text_part).prompts.tokens == part.prompts.tokens);
  const LayerSums sums = layer_sums_of(layer_sums_bytes({6, 7, "sums"}));
  CHECK(sums.part == 6);
  CHECK(sums.layer == 7);
  CHECK(sums.bytes == "sums");
  const RankProgress progress{3, int64_t{1} << 40, 5, 6};
  CHECK(progress_of(progress_bytes(progress)) == progress);
  for (size_t cut = 0; cut < bytes.size(); cut += 7)
    CHECK_THROWS_AS(work_of(std::string_view(bytes).substr(0, cut)), Error);
}

#ifdef EEP_HAVE_MPI

namespace {

// The process of one rank of the run that has `word` in its command line; 0 if there is none yet.
pid_t process_of_rank(const std::string& word, int rank) {
  const std::string wanted = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string command = slurp(entry.path().string() + "/cmdline");
    if (!command.starts_with(EEP_PROGRAM) || command.find(word) == std::string::npos) continue;
    const std::string variables = slurp(entry.path().string() + "/environ");
    if (variables.find(wanted + std::string(1, '\0')) != std::string::npos) return std::stoi(name);
  }
  return 0;
}

// Sends a signal to one rank once the search has begun.
std::thread signal_rank(const std::string& run, int rank, int signal) {
  return std::thread([=] {
    for (int wait = 0; wait < 3000; ++wait) {
      const pid_t process = process_of_rank(run, rank);
      if (process > 0 && std::filesystem::exists(run + "/metrics.jsonl")) {
        ::kill(process, signal);
        return;
      }
      ::usleep(5000);
    }
  });
}

}  // namespace

TEST_CASE("ranks: two and three ranks write the bytes of one") {
  TempDir directory;
  for (const char* task : {"sort", "cause"}) {
    CAPTURE(task);
    const std::string file = small_run(directory, "", task), one = directory(std::string(task) + "1");
    REQUIRE(eep::test::eep({"run", file, "--output", one}).code == 0);
    for (const int ranks : {2, 3}) {
      CAPTURE(ranks);
      const std::string run = directory(task + std::to_string(ranks));
      const Outcome outcome =
          eep::test::eep({"run", file, "--output", run, "--threads", "1"}, on_ranks(ranks));
      CAPTURE(outcome.err);
      REQUIRE(outcome.code == 0);
      CHECK(run_bytes(run) == run_bytes(one));
      CHECK(parse_json(slurp(run + "/result.json"), "result.json").at("ranks") == ranks);
      CHECK(outcome.out.ends_with(run + "\n"));
      CHECK(calibrations(run) == calibrations(one));
    }
  }
}

TEST_CASE("ranks: a calibration divided over two, three and seven ranks has the bytes of one") {
  TempDir directory;
  const std::string chats = directory.write("text.txt", slurp(kSource + "/docs/scaling.md"));
  for (const std::vector<std::string>& text : {std::vector<std::string>{"--task", "sort", "--limit", "5"},
                                               {"--task", "sort", "--limit", "60", "--subset-tokens", "300"},
                                               {"--text", chats, "--window", "48"}}) {
    const auto command = [&](const std::string& out) {
      std::vector<std::string> words{"calibrate", kDemoModel, "--out", out, "--threads", "1"};
      words.insert(words.end(), text.begin(), text.end());
      return words;
    };
    REQUIRE(eep::test::eep(command(directory("one.json"))).code == 0);
    // Of seven ranks and five items two have no share.
    const std::vector<int> counts = text[3] == "5" ? std::vector<int>{2, 7} : std::vector<int>{3};
    for (const int ranks : counts) {
      CAPTURE(ranks);
      const std::string out = directory("many.json");
      const Outcome outcome = eep::test::eep(command(out), on_ranks(ranks));
      CAPTURE(outcome.err);
      REQUIRE(outcome.code == 0);
      CHECK(slurp(out) == slurp(directory("one.json")));
      CHECK(!std::filesystem::exists(out + ".state"));
      std::filesystem::remove(out);
    }
  }
}

TEST_CASE("ranks: a search on fresh items, and a sweep, on two ranks") {
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
controls: [prune_only]
sweep: {seed: [1, 2]}
)");
  REQUIRE(eep::test::eep({"run", file, "--output", directory("one")}).code == 0);
  const Outcome outcome =
      eep::test::eep({"run", file, "--output", directory("two"), "--threads", "1"}, on_ranks(2));
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(run_bytes(directory("two")) == run_bytes(directory("one")));
  // Each combination by a group: of one rank, and of two beside one.
  const Outcome groups = eep::test::eep(
      {"run", file, "--output", directory("groups"), "--threads", "1", "--ranks-per-run", "1"}, on_ranks(3));
  CAPTURE(groups.err);
  REQUIRE(groups.code == 0);
  CHECK(run_bytes(directory("groups")) == run_bytes(directory("one")));
}

TEST_CASE("ranks: killed or told to leave at any moment, a run goes on with another number of ranks") {
  TempDir directory;
  const std::string file = small_run(directory), whole = directory("whole"), run = directory("run");
  const int64_t duration = microseconds_of([&] {
    REQUIRE(eep::test::eep({"run", file, "--output", whole, "--threads", "1"}, on_ranks(2)).code == 0);
  });
  const std::string expected = run_bytes(whole);
  for (int moment = 1; moment <= 6; ++moment) {
    CAPTURE(moment);
    std::filesystem::remove_all(run);
    RunLimits limits = on_ranks(2);
    limits.signal = moment % 2 == 0 ? SIGUSR1 : SIGKILL;  // mpirun passes USR1 on
    limits.microseconds = duration * moment / 7;
    const std::vector<std::string> command{"run",       file, "--output", run, "--resume-if-there",
                                           "--threads", "1"};
    const Outcome first = eep::test::eep(command, limits);
    CAPTURE(first.err);
    const int ranks = moment % 3 + 1;
    // A killed launcher leaves its ranks to find out: the lock says when they have.
    Outcome second;
    for (int wait = 0; wait < 100; ++wait) {
      second = eep::test::eep(command, ranks == 1 ? RunLimits{} : on_ranks(ranks));
      if (second.err.find("another run is using") == std::string::npos) break;
      ::usleep(100000);
    }
    CAPTURE(second.err);
    REQUIRE(second.code == 0);
    CHECK(run_bytes(run) == expected);
  }
}

TEST_CASE("ranks: a signal to one rank alone makes all leave, and a rank that stops or dies is named") {
  TempDir directory;
  const std::string file = directory.write("long.yaml", slurp(small_run(directory)));
  const std::string one = directory("one");
  const std::vector<std::string> longer{"--set", "search.merge.evaluations=200", "--threads", "1"};
  const auto command = [&](const std::string& run) {
    std::vector<std::string> words{"run", file, "--output", run, "--resume-if-there"};
    words.insert(words.end(), longer.begin(), longer.end());
    return words;
  };
  REQUIRE(eep::test::eep(command(one)).code == 0);
  for (const int signal : {SIGTERM, SIGKILL, SIGSTOP}) {
    CAPTURE(signal);
    const std::string run = directory("run" + std::to_string(signal));
    RunLimits limits = on_ranks(2);
    limits.variables = {{"EEP_RANK_TIMEOUT", "5"}};
    std::thread sender = signal_rank(run, 1, signal);
    Outcome outcome;
    const int64_t took = microseconds_of([&] { outcome = eep::test::eep(command(run), limits); });
    sender.join();
    CAPTURE(outcome.err);
    CHECK(took < 60000000);
    CHECK(outcome.code != 0);
    if (signal == SIGTERM) CHECK(outcome.code == 130);
    if (signal == SIGSTOP) {
      CHECK(outcome.err.find("rank 1 (") != std::string::npos);
      CHECK(outcome.err.find("is silent") != std::string::npos);
    }
    if (signal != SIGTERM) {
      const pid_t left = process_of_rank(run, 1);
      if (left > 0) ::kill(left, SIGKILL);
    }
    const Outcome resumed = eep::test::eep(command(run), signal == SIGTERM ? on_ranks(3) : RunLimits{});
    CAPTURE(resumed.err);
    CHECK(resumed.code == 0);
    CHECK(run_bytes(run) == run_bytes(one));
  }
}

TEST_CASE("ranks: a rank with other weights, or none, ends the run with its name") {
  TempDir directory;
  std::filesystem::copy(kDemoModel, directory("model"), std::filesystem::copy_options::recursive);
  const std::string file = small_run(directory);
  std::string text = slurp(file);
  text.replace(text.find(kDemoModel), kDemoModel.size(), directory("model"));
  const std::string other = directory.write("other.yaml", text);
  std::string weights = slurp(directory("model/model.safetensors"));
  weights[weights.size() - 9] = static_cast<char>(weights[weights.size() - 9] ^ 1);
  directory.write("model/model.safetensors", weights);
  for (const bool missing : {false, true}) {
    if (missing) std::filesystem::remove(directory("model/model.safetensors"));
    const std::string run = directory(missing ? "missing" : "changed");
    const Outcome outcome = eep::test::eep(
        {"run", file, "--output", run, ":", "-n", "1", EEP_PROGRAM, "run", other, "--output", run},
        on_ranks(1));
    CAPTURE(outcome.err);
    CHECK(outcome.code == (missing ? 66 : 65));
    CHECK(outcome.err.find("eep: error: rank 1 (") != std::string::npos);
    if (!missing) CHECK(outcome.err.find("the model: differs from rank 0's") != std::string::npos);
    CHECK(eep::test::eep({"run", file, "--output", run, "--resume-if-there"}).code == 0);
  }
}

TEST_CASE("ranks: Slurm's count must be theirs; a bad file is said once; doctor has a line a rank") {
  TempDir directory;
  const std::string file = small_run(directory);
  RunLimits slurm = on_ranks(2);
  slurm.variables = {{"SLURM_NTASKS", "4"}};
  const Outcome wrong = eep::test::eep({"run", file, "--output", directory("run")}, slurm);
  CHECK(wrong.code == 2);
  CHECK(wrong.err.find("SLURM_NTASKS") != std::string::npos);
  CHECK(!std::filesystem::exists(directory("run")));
  RunLimits alone;
  alone.variables = {{"SLURM_NTASKS", "4"}};
  CHECK(eep::test::eep({"run", file, "--output", directory("run")}, alone).code == 2);

  const Outcome bad = eep::test::eep({"run", directory.write("bad.yaml", "nmae: x\n")}, on_ranks(2));
  CHECK(bad.code == 78);
  const size_t first = bad.err.find("eep: error:");
  CHECK(first != std::string::npos);
  CHECK(bad.err.find("eep: error:", first + 1) == std::string::npos);

  const Outcome doctor = eep::test::eep({"doctor"}, on_ranks(3));
  CHECK(doctor.code == 0);
  for (const char* line : {"rank 0 on ", "rank 1 on ", "rank 2 on ", "local 2 of 3"})
    CHECK(doctor.out.find(line) != std::string::npos);
}

#endif  // EEP_HAVE_MPI
