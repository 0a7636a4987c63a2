// eep run: the main job. One combination, or every combination of a sweep, in a run directory.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "engine/kernel_path.h"
#include "es/algorithm.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/program/run_models.h"
#include "experiments/program/signals.h"
#include "experiments/ranks/launch.h"
#include "experiments/report/report.h"
#include "experiments/study/combination.h"
#include "experiments/study/estimate.h"
#include "experiments/study/rank_calibration.h"
#include "experiments/study/rank_evaluation.h"
#include "experiments/study/rank_thresholds.h"
#include "experiments/study/run_config.h"
#include "experiments/study/run_directory.h"
#include "experiments/study/run_export.h"
#include "experiments/study/run_report.h"
#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr int kLeadTag = kLastTag + 1, kLedTag = kLastTag + 2;

struct Arguments {
  std::string file, output, resume;
  Overrides overrides;
  bool dry_run = false, json = false, resume_if_there = false, share_device = false;
  int ranks_per_run = 0, pipeline = 0;
};

class Runner {
 public:
  Runner(const Arguments& arguments, CommandContext& context) : arguments_(arguments), context_(context) {}

  int run() {
    check_slurm_tasks(std::getenv, context_.ranks == nullptr ? 1 : context_.ranks->size());
    models_.check_stages(arguments_.ranks_per_run, arguments_.dry_run);
    if (models_.stage() > 0) serve_stage();
    if (context_.ranks != nullptr && context_.ranks->rank() > 0) serve();
    if (context_.ranks != nullptr) meet_ranks();
    for (const std::string& note : read_experiment()) context_.messages.info(note);
    const std::string& name = combinations_[0].experiment.name;
    const std::string config = resolved_config(combinations_);
    context_.messages.info(
        fmt::format("{}: {} {}", name, combinations_.size(), combinations_.size() == 1 ? "run" : "runs"));
    const std::string path = !arguments_.resume.empty()   ? arguments_.resume
                             : !arguments_.output.empty() ? arguments_.output
                                                          : default_run_path(name, config);
    const bool goes_on = arguments_.resume_if_there && file_exists(path + "/config.resolved.yaml");
    const bool resumes = !arguments_.resume.empty() || goes_on;
    if (goes_on) check_same_config(path + "/config.resolved.yaml", config);
    if (goes_on && is_done(path) && !arguments_.dry_run) return report_again(path);
    check_inputs();
    if (arguments_.dry_run) return dry_run(config);

    if (!arguments_.resume.empty() && !directory_exists(path)) fail_missing(path, "no such run directory");
    if (!arguments_.resume.empty()) check_same_config(path + "/config.resolved.yaml", config);
    if (goes_on) context_.messages.info("resuming " + path);
    RunDirectory directory(path);
    if (!resumes && file_exists(directory.file("config.resolved.yaml"))) {
      throw Error(ExitCode::kRuntime, path, "a run is here already",
                  "use --resume " + path + ", --resume-if-there, or another --output");
    }
    write_file_atomic(directory.file("config.resolved.yaml"), config);
    context_.messages.log_to(directory.file("log.txt"));
    try {
      return finish(directory, run_groups(directory.path()));
    } catch (const Interrupted&) {
      context_.messages.info("go on with: eep run --resume " + path);
      throw;
    }
  }

 private:
  // An option that stands for --set KEY=VALUE: both may be given where they agree.
  static void set_by_option(const char* option, const std::string& key, const std::string& value,
                            Overrides* overrides) {
    for (const std::string& other : *overrides) {
      if (!other.starts_with(key + "=") || other == key + "=" + value) continue;
      throw Error(
          ExitCode::kUsage, option,
          fmt::format("--set {} is given too", printable(other)) + expected_got("one of them", value));
    }
    const std::string own = key + "=" + value;
    if (std::find(overrides->begin(), overrides->end(), own) == overrides->end()) overrides->push_back(own);
  }

  std::vector<std::string> read_experiment() {
    const std::string file =
        arguments_.file.empty() ? arguments_.resume + "/config.resolved.yaml" : arguments_.file;
    Overrides overrides = arguments_.overrides;
    const CommonOptions& options = context_.options;
    if (!options.parity.empty()) set_by_option("--parity", "model.parity", options.parity, &overrides);
    if (!options.precision.empty())
      set_by_option("--precision", "model.precision", options.precision, &overrides);
    if (options.seed_given) set_by_option("--seed", "seed", std::to_string(options.seed), &overrides);
    std::vector<std::string> notes;
    combinations_ = expand_sweep(file, overrides, &notes);
    return notes;
  }

  // Rank 0: who is there, and on which device.
  void meet_ranks() {
    const std::vector<RankFacts>& facts = context_.ranks->everybody();
    check_devices(facts, arguments_.share_device);
    std::set<std::string> hosts;
    for (const RankFacts& rank : facts) hosts.insert(rank.host);
    context_.messages.info(fmt::format("{} ranks on {} {}", facts.size(), hosts.size(),
                                       hosts.size() == 1 ? "machine" : "machines"));
    if (arguments_.ranks_per_run > context_.ranks->size()) {
      throw Error(ExitCode::kUsage, "--ranks-per-run",
                  "more than there are" +
                      expected_got(fmt::format("1..{}", context_.ranks->size()), arguments_.ranks_per_run));
    }
    evaluation_ = std::make_unique<RankEvaluation>(*context_.ranks, group_size(), stages());
  }

  int stages() const { return models_.stages(); }
  // A rank that has later layers: computes what the one with the first layers tells it.
  [[noreturn]] void serve_stage() {
    for (;;) {
      const StageRequest request = stage_request_of(context_.ranks->receive({RankStageLink::kCallTag}).bytes);
      if (combinations_.empty()) read_experiment();
      models_.serve(request);
    }
  }

  // Groups of ranks take the combinations of a sweep in turn; the last group has the ranks that are over.
  int groups() const {
    if (context_.ranks == nullptr || arguments_.ranks_per_run == 0) return 1;
    return context_.ranks->size() / arguments_.ranks_per_run;
  }
  int group() const {
    return context_.ranks == nullptr || groups() == 1
               ? 0
               : std::min(context_.ranks->rank() / arguments_.ranks_per_run, groups() - 1);
  }
  int group_size() const {
    const int all = context_.ranks->size();
    if (groups() == 1) return all;
    return group() + 1 == groups() ? all - group() * arguments_.ranks_per_run : arguments_.ranks_per_run;
  }

  // Other ranks: compute for the one that leads their group, or lead it for rank 0, which ends them.
  [[noreturn]] void serve() {
    Ranks& ranks = *context_.ranks;
    for (;;) {
      const RankMessage message = ranks.receive({kWorkTag, kCalibrateTag, kRatiosTag, kLeadTag});
      if (combinations_.empty()) read_experiment();
      if (message.tag == kLeadTag) {
        evaluation_ = std::make_unique<RankEvaluation>(ranks, group_size(), stages());
        run_all(message.bytes);
        ranks.send(0, kLedTag, {});
        continue;
      }
      if (message.tag == kCalibrateTag) {
        const CalibrationWork work = calibration_work_of(message.bytes);
        const Experiment& e = combinations_.at(static_cast<size_t>(work.combination)).experiment;
        const CommonOptions& options = context_.options;
        compute_calibration(work, model_of(e), options.memory, ranks);
        continue;
      }
      if (message.tag == kRatiosTag) {
        const RatiosWork work = ratios_work_of(message.bytes);
        const Experiment& e = combinations_.at(static_cast<size_t>(work.combination)).experiment;
        compute_ratios(work, message.from, model_of(e), context_.options.memory, ranks);
        continue;
      }
      const RankWork work = work_of(message.bytes);
      const Experiment& e = combinations_.at(static_cast<size_t>(work.combination)).experiment;
      const RankResult result = compute_work(work, message.from, model_of(e), task_of(e), ranks);
      ranks.send(message.from, kResultTag, result_bytes(result));
    }
  }

  // Rank 0: its share of the sweep, while the others' leaders do theirs.
  std::vector<Json> run_groups(const std::string& directory) {
    for (int other = 1; other < groups(); ++other)
      context_.ranks->send(other * arguments_.ranks_per_run, kLeadTag, directory);
    std::vector<Json> results = run_all(directory);
    for (int other = 1; other < groups(); ++other) context_.ranks->receive({kLedTag});
    if (groups() == 1) return results;
    results.clear();
    for (const Combination& combination : combinations_)
      results.push_back(read_result(path_of(directory, combination) + "/result.json"));
    return results;
  }

  void divide(size_t combination) {
    if (!evaluation_) return;
    const Experiment& e = combinations_[combination].experiment;
    ModelContext& model = model_of(e);
    TaskContext& task = task_of(e);
    task.divide_by([this, combination, &model, &task](Split set, std::span<const ExpertPlan> plans,
                                                      std::span<const int32_t> items) {
      return evaluation_->evaluate(static_cast<int32_t>(combination), model, task, set, plans, items);
    });
    task.measure_thresholds_by([this, combination, &model](const ExpertPlan& plan, const Prompts& prompts,
                                                           const std::function<void(int64_t)>& progress) {
      return divided_thresholds(*context_.ranks, group_size(), stages(), static_cast<int32_t>(combination),
                                model, context_.options.memory, plan, prompts, progress);
    });
    if (stages() > 1 && group_size() == stages()) return;  // one model: its stages have their own way
    task.calibrate_by([this, combination, &model](const Prompts& prompts, const CalibrationOptions& options) {
      const CommonOptions& common = context_.options;
      return RankCalibration(*context_.ranks, group_size(), stages())
          .calibrate(static_cast<int32_t>(combination), model, common.memory, once(prompts), options);
    });
  }

  std::string path_of(const std::string& path, const Combination& combination) const {
    return combination.name.empty() ? path : path + "/" + combination.name;
  }

  // Every combination has its result, and its export where one is asked for.
  bool is_done(const std::string& path) const {
    return std::all_of(combinations_.begin(), combinations_.end(), [&](const Combination& combination) {
      const std::string own = path_of(path, combination);
      return file_exists(own + "/result.json") && is_exported(combination.experiment, own);
    });
  }

  // A run that was started once more when it was done: no model is opened.
  int report_again(const std::string& path) {
    RunDirectory directory(path);
    std::vector<Json> results;
    for (const Combination& combination : combinations_) {
      results.push_back(read_result(path_of(path, combination) + "/result.json"));
      report_if_missing(path_of(path, combination));
    }
    context_.messages.info("done already");
    return finish(directory, results);
  }

  // What can be known to be wrong before any work is done.
  void check_inputs() {
    check_each([](const Experiment& e) { check_splits(e); });
    check_each([this](const Experiment& e) { model_of(e); });
    check_each([this](const Experiment& e) {
      const RunHooks none = hooks();
      CombinationRun check(model_of(e), task_of(e), e, "", {}, none);  // budget against the model
      population_memory(e);                                            // and against --memory
    });
  }

  // An error that is one of the experiment file says where in it.
  void check_each(const std::function<void(const Experiment&)>& check) const {
    for (const Combination& combination : combinations_) {
      try {
        check(combination.experiment);
      } catch (const Error& error) {
        throw located(error, combination);
      }
    }
  }

  static void check_splits(const Experiment& e) {
    const Task task = load_task(find_task(e.task, e.directory), e.protocol);
    const std::pair<const char*, const SplitUse*> uses[] = {
        {"train", &e.train}, {"dev", &e.dev}, {"test", &e.test}};
    for (const auto& [name, use] : uses) {
      if (task.data.count(use->split) != 0) {
        load_items(task, use->split, use->limit);  // its form; the test split's scores stay unseen
      } else if (name != std::string("dev") || use->split != "dev") {  // a task may have no dev split
        throw Error(ExitCode::kConfig, fmt::format("task.{}.split", name),
                    fmt::format("task {} has no such split (got {})", task.name, printable(use->split)));
      }
    }
  }

  ModelContext& model_of(const Experiment& e) { return models_.model_of(e); }
  TaskContext& task_of(const Experiment& e) { return models_.task_of(e); }

  RunHooks hooks() {
    RunHooks hooks;
    hooks.say = [this](const std::string& text) { context_.messages.info(text); };
    hooks.progress = [this](const std::string& what, int64_t done, int64_t total, const std::string& best) {
      context_.messages.progress(what, done, total, best);
    };
    hooks.warn = [this](const std::string& text) { context_.messages.warn(text); };
    hooks.work = [this](const std::string& what, int64_t done, int64_t total, const std::string& unit) {
      context_.messages.brief_progress(what, done, total, unit);
    };
    hooks.bytes = [this](const std::string& what, size_t done, size_t total) {
      context_.messages.byte_progress(what, done, total);
    };
    hooks.ranks = context_.ranks == nullptr ? 1 : group_size();
    return hooks;
  }

  // Every kept count of the sweep, so that one calibration serves all.
  std::vector<int32_t> subset_counts(const Experiment& e) {
    std::set<int32_t> counts;
    for (const Combination& combination : combinations_) {
      const Experiment& other = combination.experiment;
      const auto& names = other.baselines;
      const bool measured = std::any_of(names.begin(), names.end(), [](const std::string& name) {
        const SkippingRow* skipping = find_skipping(name);
        return name == "naee" || (skipping != nullptr && skipping->criterion == "naee");
      });
      if (other.model_path == e.model_path && measured) {
        // Even counts differ by one.
        const int64_t usual = usual_experts(other, model_of(e).config());
        counts.insert(static_cast<int32_t>(usual));
        if (other.counts.total > 0 && usual > 1) counts.insert(static_cast<int32_t>(usual - 1));
      }
    }
    return {counts.begin(), counts.end()};
  }

  // parts: how many stages the layers are divided into; 0: as the model has been opened.
  MemoryPlan population_memory(const Experiment& e, int parts = 0) {
    const ModelConfig& config = model_of(e).config();
    std::vector<ExpertPlan> plans(static_cast<size_t>(e.search.population),
                                  identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                                                static_cast<int32_t>(config.top_k)));
    // The merge phase at its fullest: every row dense, none shared.
    for (ExpertPlan& plan : plans) {
      for (PlanGroup& group : plan.groups) {
        group.kept = static_cast<int32_t>(usual_experts(e, config));
        group.router_mapping.assign(static_cast<size_t>(group.kept) * static_cast<size_t>(group.experts),
                                    0.5f);
        group.expert_merging = group.router_mapping;
      }
    }
    return task_of(e).evaluator(Split::kTrain).memory_plan(plans, parts);
  }

  std::string describe_memory(const Experiment& e) {
    if (stages() == 1) return describe(population_memory(e));
    return describe(population_memory(e)) + "; " +
           describe_stages(model_of(e), stages(), population_memory(e, stages()),
                           task_of(e).evaluator(Split::kTrain).requests().prompts().rows(),
                           e.search.population);
  }

  int dry_run(const std::string& config) {
    for (const auto& [key, task] : models_.tasks()) {
      for (const std::string& warning : task->warnings()) context_.messages.warn(warning);
    }
    int64_t evaluations = 0, tokens = 0;
    double seconds = 0;
    std::string memory;
    for (const Combination& combination : combinations_) {
      const Experiment& e = combination.experiment;
      TaskContext& task = task_of(e);
      const RunHooks none = hooks();
      const int64_t count = CombinationRun(model_of(e), task, e, "", {}, none).planned_evaluations();
      const int64_t pruned = count - e.search.merge.evaluations;
      evaluations += count;
      // Candidates on fresh items see a shard, others the fixed items, which are measured.
      const ShardConfig shards = task.shards();
      const bool fresh =
          shards.shard > 0 && make_algorithm(e.search.merge, Phase::kMerge)->needs().fresh_items;
      const double share =
          fresh ? static_cast<double>(shards.shard) / static_cast<double>(shards.fixed) : 1.0;
      const double merged = static_cast<double>(e.search.merge.evaluations) * share;
      tokens += static_cast<int64_t>(
          (static_cast<double>(pruned) + merged) *
          static_cast<double>(task.evaluator(Split::kTrain).requests().prompts().tokens_without_sharing));
      memory = describe_memory(e);
      seconds += static_cast<double>(pruned) * seconds_per_candidate(e, false) +
                 merged * seconds_per_candidate(e, true);
    }
    if (arguments_.json) {
      context_.out << Json{{"runs", combinations_.size()}, {"evaluations", evaluations}, {"tokens", tokens},
                           {"estimated_seconds", seconds}, {"memory", memory},           {"config", config}}
                          .dump(2)
                   << "\n";
    } else {
      context_.out << config
                   << fmt::format(
                          "# {}\n# {} evaluations, {} tokens, about {} (measured on a few candidates)\n",
                          memory, evaluations, tokens, duration_text(seconds));
    }
    return 0;
  }

  double seconds_per_candidate(const Experiment& e, bool merge) {
    const std::string key = fmt::format("{}\n{}\n{} {}", e.model_path, TaskContext::key(e),
                                        usual_experts(e, model_of(e).config()), merge);
    const auto [known, fresh] = seconds_.try_emplace(key, 0.0);
    if (fresh) known->second = measure_candidate(model_of(e), task_of(e), e, merge);
    return known->second;
  }

  // The combinations of this rank's group.
  std::vector<Json> run_all(const std::string& directory) {
    std::vector<Json> results;
    const RunHooks run_hooks = hooks();
    make_directory(directory + "/checkpoints");
    for (size_t i = 0; i < combinations_.size(); ++i) {
      if (static_cast<int>(i) % groups() != group()) continue;
      const Combination& combination = combinations_[i];
      const Experiment& e = combination.experiment;
      const std::string path = path_of(directory, combination);
      if (!combination.name.empty()) {
        make_directory(path);
        const std::string config = resolved_yaml(e);
        if (file_exists(path + "/config.resolved.yaml"))
          check_same_config(path + "/config.resolved.yaml", config);
        write_file_atomic(path + "/config.resolved.yaml", config);
        context_.messages.info(fmt::format("[{}/{}] {}", i + 1, combinations_.size(), combination.name));
      }
      keep_manifest(path + "/manifest.json", manifest(e));
      if (file_exists(path + "/result.json")) {
        context_.messages.info("done already");
        results.push_back(read_result(path + "/result.json"));
        CombinationRun(model_of(e), task_of(e), e, path, {}, run_hooks).finish_export();
        report_if_missing(path);
        continue;
      }
      context_.messages.info(describe_memory(e));
      for (const std::string& warning : task_of(e).warnings()) context_.messages.warn(warning);
      task_of(e).cache_in(directory + "/checkpoints");
      divide(i);
      CombinationRun run(model_of(e), task_of(e), e, path, subset_counts(e), run_hooks);
      results.push_back(run.run());
      context_.messages.finish_progress();
      report(path);
    }
    return results;
  }

  static void make_directory(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) throw Error(ExitCode::kIo, path, "cannot create the directory: " + error.message());
  }

  Json manifest(const Experiment& e) {
    const std::string hash = model_of(e).hash([this](size_t done, size_t total) {
      context_.messages.byte_progress("hash of the model", done, total);
    });
    Json manifest = make_manifest(context_.command_line, context_.options.device.threads, e.search.seed,
                                  model_of(e).path(), hash);
    manifest["data"] = task_of(e).hashes();
    manifest["inputs"] = task_of(e).input_hashes();
    manifest["device"] = context_.options.ops->name;
    manifest["precision"] = model_of(e).precision();
    manifest["kernel_path"] = kernel_path_setting();
    if (context_.options.device.kind == DeviceKind::kCuda)
      manifest["gpu"] = cuda_device_text(context_.options.device.index);
    return manifest;
  }

  int finish(const RunDirectory& directory, const std::vector<Json>& results) {
    const std::string table = write_report(directory, combinations_, results);
    if (is_sweep(combinations_)) report(directory.path());
    if (arguments_.json) {
      context_.out << (is_sweep(combinations_) ? Json(results) : results[0]).dump(2) << "\n";
    } else {
      context_.out << table << "\n" << directory.path() << "\n";
    }
    return 0;
  }

  void report(const std::string& directory) {
    report_after_run(directory, [this](const std::string& text) { context_.messages.warn(text); });
  }

  // Of a run that was killed between its result and its pages.
  void report_if_missing(const std::string& directory) {
    if (!file_exists(directory + "/report.html")) report(directory);
  }

  const Arguments& arguments_;
  CommandContext& context_;
  StopSignal stop_;
  std::vector<Combination> combinations_;
  RunModels models_{context_, combinations_, arguments_.pipeline};
  std::map<std::string, double> seconds_;  // of one candidate, for the estimate
  std::unique_ptr<RankEvaluation> evaluation_;
};

int run(const Arguments& arguments, CommandContext& context) {
  if (arguments.file.empty() && arguments.resume.empty()) {
    throw Error(ExitCode::kUsage, "run", "an experiment file is needed");
  }
  if (!arguments.resume.empty() && !arguments.output.empty()) {
    throw Error(ExitCode::kUsage, "run", "--output and --resume exclude each other");
  }
  if (arguments.resume_if_there && arguments.output.empty()) {
    throw Error(ExitCode::kUsage, "--resume-if-there", "says what to do with --output DIR, which is missing");
  }
  return Runner(arguments, context).run();
}

}  // namespace

void register_run(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command = line.command("run", "Baselines, prune phase, merge phase, final evaluation",
                                       "eep run experiments/demo/demo.yaml --set seed=2",
                                       [=](CommandContext& context) { return run(*arguments, context); });
  command.option("EXPERIMENT", arguments->file, "experiment file (YAML); may be left out with --resume");
  command.option("--set", arguments->overrides, "override a field: search.merge.sigma=0.05").one_value_each();
  command.option("--output", arguments->output, "run directory (default: runs/<time>-<name>-<hash>)");
  command.option("--resume", arguments->resume, "go on in this run directory");
  command
      .option("--ranks-per-run", arguments->ranks_per_run,
              "ranks that work on one combination of a sweep (default: all)")
      .range(1, 1 << 20);
  command
      .option("--pipeline", arguments->pipeline,
              "ranks that divide the model's layers: each holds a part, for models larger than a device")
      .range(1, 1 << 20);
  command.flag("--share-device", arguments->share_device, "several ranks may use one GPU");
  command.flag(
      "--resume-if-there", arguments->resume_if_there,
      "go on in --output if a run is there, else begin it: the same command starts, restarts and ends");
  command.flag("--dry-run", arguments->dry_run,
               "print the resolved configuration, the memory plan, the work and an estimated time");
  command.flag("--json", arguments->json, "machine-readable result on stdout");
}

}  // namespace eep
