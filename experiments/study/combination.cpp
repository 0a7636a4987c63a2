// Baselines, choice on the dev split, final scores and files of one combination; the search itself is in
// combination_search.cpp.
#include "experiments/study/combination.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <tuple>

#include "es/criteria.h"
#include "es/kept_sets.h"
#include "es/no_signal.h"
#include "es/redundancy.h"
#include "es/search.h"
#include "experiments/study/run_export.h"
#include "experiments/study/run_report.h"
#include "experiments/study/samples.h"
#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"
#include "loaders/formats/file.h"
#include "loaders/models/plan_io.h"

namespace eep {

CombinationRun::CombinationRun(ModelContext& model, TaskContext& task, const Experiment& experiment,
                               std::string directory, std::vector<int32_t> subset_kept, const RunHooks& hooks)
    : model_(model),
      task_(task),
      mix_(task, experiment),
      experiment_(experiment),
      directory_(std::move(directory)),
      subset_kept_(std::move(subset_kept)),
      hooks_(hooks) {
  const ModelConfig& config = model_.config();
  require_original(model_.raw(), experiment_.model_path);
  if (experiment_.model_dtype != "auto" && experiment_.model_dtype != dtype_name(config.dtype)) {
    throw Error(
        ExitCode::kConfig, "model.dtype",
        "the checkpoint has another" + expected_got(experiment_.model_dtype, dtype_name(config.dtype)));
  }
  const int64_t most = std::max({experiment_.experts, experiment_.counts.least, experiment_.counts.most});
  if (most > config.num_experts) {
    throw Error(ExitCode::kConfig, experiment_.counts.total > 0 ? "plan.experts.max" : "plan.experts",
                "more than the model has" + expected_got(fmt::format("1..{}", config.num_experts), most));
  }
  const int64_t kept = experiment_.counts.total == 0 ? experiment_.experts
                       : experiment_.counts.most > 0 ? experiment_.counts.most
                                                     : config.num_experts;
  if (experiment_.top_k > kept) {
    throw Error(
        ExitCode::kConfig, "plan.top_k",
        "more active than kept experts" + expected_got(fmt::format("1..{}", kept), experiment_.top_k));
  }
  top_k_ = static_cast<int32_t>(experiment_.top_k > 0 ? experiment_.top_k : config.top_k);
  space_ = experiment_.router_space == "logits" ? RouterSpace::kLogits : RouterSpace::kProbabilities;
  const int64_t layers = config.sparse_layers();
  const int64_t groups = experiment_.groups == "per_layer" ? layers : std::stoll(experiment_.groups);
  groups_ = split_layers(config.sparse, static_cast<int32_t>(groups));
  for (const std::string& name : experiment_.baselines) {
    if (name == "full" || find_skipping(name) != nullptr || find_criterion(name).merge == nullptr ||
        groups == layers)
      continue;
    throw Error(ExitCode::kConfig, "baselines",
                fmt::format("{} merges the experts of each layer on its own", name) +
                    expected_got("plan.groups: per_layer", experiment_.groups));
  }
  const Experiment::Counts& counts = experiment_.counts;
  const auto experts = static_cast<int32_t>(config.num_experts);
  kept_.assign(groups_.size(), static_cast<int32_t>(experiment_.experts));
  if (counts.total > 0) {
    const int64_t room = layers * (counts.most > 0 ? counts.most : config.num_experts);
    if (counts.total > room) {
      throw Error(ExitCode::kConfig, "plan.experts.total",
                  "more than all layers together may keep" +
                      expected_got(fmt::format("{} or less", room), counts.total));
    }
    kept_ = even_counts(groups_, counts.total, static_cast<int32_t>(counts.least),
                        counts.most > 0 ? static_cast<int32_t>(counts.most) : experts);
  }
  if (!experiment_.start.empty()) {
    const std::string file = resolve_path(experiment_.start, experiment_.directory);
    PlanInfo info;
    start_ = read_plan(file, &info);
    check_plan_model(
        start_, info, config, [&] { return model_.hash(); }, file);
  }
  // Refuses now what it would refuse among the baselines and after them.
  for (const std::string& name : experiment_.baselines) {
    const SkippingRow* const row = find_skipping(name);
    if (row == nullptr) continue;
    const bool pruned = !row->criterion.empty() && prunes();
    check_skippable(config.top_k,
                    pruned ? *std::min_element(kept_.begin(), kept_.end()) : config.num_experts);
  }
  Search(genome_space(), search_config(), warm_starts(genome_space()));
}

GenomeSpace CombinationRun::genome_space() const {
  GenomeSpace space;
  space.experts = static_cast<int32_t>(model_.config().num_experts);
  space.kept = kept_;
  space.layers = groups_;
  space.top_k = top_k_;
  space.top_k_least = static_cast<int32_t>(experiment_.top_k_least);
  space.router_space = space_;
  if (experiment_.counts.total > 0) {
    space.total = experiment_.counts.total;
    space.least = static_cast<int32_t>(experiment_.counts.least);
    space.most = experiment_.counts.most > 0 ? static_cast<int32_t>(experiment_.counts.most) : space.experts;
  }
  return space;
}

SearchConfig CombinationRun::search_config() const {
  SearchConfig config = experiment_.search;
  config.shards = task_.shards();
  config.racing.keep = experiment_.dev_count;
  return config;
}

int64_t CombinationRun::planned_evaluations() const {
  return (prunes() ? experiment_.search.prune.evaluations : 0) + experiment_.search.merge.evaluations;
}

CombinationRun::Method& CombinationRun::add_method(const std::string& name, ExpertPlan plan) {
  Method method;
  method.result.name = name;
  method.plan = std::move(plan);
  methods_.push_back(std::move(method));
  return methods_.back();
}

const ExpertStatistics& CombinationRun::statistics(double* seconds) {
  return task_.statistics(
      subset_kept_, [&] { hooks_.say("calibration"); },
      [&](int64_t done, int64_t total) { hooks_.work("calibration", done, total, "tokens"); }, seconds);
}

void CombinationRun::add_skipping(const SkippingRow& row) {
  const ModelConfig& config = model_.config();
  const auto active = static_cast<int32_t>(config.top_k);
  ExpertPlan plan = identity_plan(config.sparse, static_cast<int32_t>(config.num_experts), active);
  double seconds = 0;
  if (!row.criterion.empty()) {
    Criterion criterion;
    criterion.row = &find_criterion(row.criterion);
    criterion.seed = experiment_.search.seed;
    plan = select_plan(statistics(&seconds), criterion, kept_, groups_, active, space_);
  }
  const SkipThresholds thresholds = task_.skip_thresholds(
      plan, [&](int64_t done, int64_t total) { hooks_.work("thresholds", done, total, "tokens"); }, &seconds);
  Method& method = add_method(std::string(row.name), skipping_plan(std::move(plan), thresholds));
  method.result.active = thresholds.active;
  method.result.seconds = seconds;
}

void CombinationRun::make_baselines() {
  const ModelConfig& config = model_.config();
  const int32_t experts = static_cast<int32_t>(config.num_experts);
  const auto add = [&](const std::string& name, ExpertPlan plan) -> Method& {
    return add_method(name, std::move(plan));
  };
  // The full model is always there: every comparison needs it.
  add("full", identity_plan(config.sparse, experts, static_cast<int32_t>(config.top_k)));
  if (top_k_ < config.top_k) {
    add(fmt::format("full_top{}", top_k_), identity_plan(config.sparse, experts, top_k_));
  }
  int64_t made = 0;
  for (const std::string& name : experiment_.baselines) {
    check_interrupted();
    if (name == "full") continue;
    const SkippingRow* const skipping = find_skipping(name);
    if (!prunes() && (skipping == nullptr || !skipping->criterion.empty())) continue;
    hooks_.work("baselines", made++, static_cast<int64_t>(experiment_.baselines.size()), name);
    if (skipping != nullptr) {
      add_skipping(*skipping);
      continue;
    }
    Criterion criterion;
    criterion.row = &find_criterion(name);
    criterion.seed = experiment_.search.seed;
    if (criterion.row->calibrates()) {
      double seconds = 0;
      const ExpertStatistics& measured = statistics(&seconds);
      Method& method = add(name, select_plan(measured, criterion, kept_, groups_, top_k_, space_));
      warn_of_no_signal(measured, criterion, method.plan);
      say_redundancy(measured);
      method.result.seconds = seconds;
      continue;
    }
    Method& method = add(name, ExpertPlan{});
    for (int64_t draw = 0; draw < experiment_.random_draws; ++draw) {
      method.draws.push_back(
          random_plan(experts, kept_, criterion.seed, static_cast<uint32_t>(draw), groups_, top_k_, space_));
    }
    method.plan = method.draws[0];
  }
}

void CombinationRun::warn_of_no_signal(const ExpertStatistics& statistics, const Criterion& criterion,
                                       const ExpertPlan& plan) {
  for (const std::string& line : choices_without_signal(statistics, criterion, plan)) {
    if (said_.insert(line).second) hooks_.warn(fmt::format("{} (baseline {})", line, criterion.row->name));
  }
}

// What the calibration foretells of keeping so many, where every layer keeps as many.
void CombinationRun::say_redundancy(const ExpertStatistics& statistics) {
  const std::string line = redundancy_line(statistics, *std::max_element(kept_.begin(), kept_.end()));
  if (!line.empty() && said_.insert(line).second) hooks_.say(line);
}

CombinationRun::DevKey CombinationRun::dev_key(const MixedScore& score) const {
  const FitnessKind kind = experiment_.search.fitness;
  return {-score.short_by, kind == FitnessKind::kLoglik ? score.loglik : score.score,
          kind == FitnessKind::kMetric ? 0.0 : score.loglik};
}

int64_t CombinationRun::choose(const std::string& method, const Search& search,
                               const std::vector<int64_t>& leaders) {
  if (leaders.size() < 2 || !task_.has_dev()) return leaders.at(0);
  std::vector<ExpertPlan> plans;
  for (int64_t evaluation : leaders) plans.push_back(search.plan(evaluation));
  const std::vector<MixedScore> results = mix_.scores(Split::kDev, plans);
  size_t best = 0;  // leaders come best on train first, then earliest: an equal one later never wins
  for (size_t i = 1; i < results.size(); ++i) {
    if (dev_key(results[i]) > dev_key(results[best])) best = i;
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const Json line{{"method", method},
                    {"evaluation", leaders[i]},
                    {"train", search.archive()[leaders[i]].result.fitness},
                    {"dev", std::get<1>(dev_key(results[i]))},
                    {"chosen", i == best}};
    finalists_ += line.dump() + "\n";
  }
  return leaders[best];
}

// A table of a model that puts out no numbers would compare nothing.
void CombinationRun::check_scores(const SplitResult& full) const {
  const size_t lost = items_without_scores(full);
  if (lost == 0) return;
  const std::string what = fmt::format(
      "{} of {} items have scores that are no numbers: values inside the model exceed what floats hold", lost,
      full.n);
  if (lost == full.items.size())
    throw Error(ExitCode::kData, "the full model", what,
                "the weights are damaged or badly scaled: eep verify MODEL");
  hooks_.say("warning: the full model: " + what);
}

void CombinationRun::tell_answers_as(const std::string& what) {
  task_.set_progress([this, what](bool decoding, int64_t done, int64_t total) {
    hooks_.work(decoding ? what + ", decoding" : what, done, total, "answers");
  });
}

void CombinationRun::final_scores() {
  const Metric metric = task_.task().metric;
  const uint64_t seed = experiment_.search.seed;
  std::vector<Split> splits{Split::kTrain};
  if (task_.has_dev()) splits.push_back(Split::kDev);
  splits.push_back(Split::kTest);
  for (Split split : splits) {
    check_interrupted();
    const char* const what = split == Split::kTest  ? "final evaluation on the test split"
                             : split == Split::kDev ? "evaluation on the dev split"
                                                    : "evaluation on the train split";
    hooks_.say(what);
    tell_answers_as(what);
    std::vector<ExpertPlan> plans;
    for (const Method& method : methods_) {
      if (method.draws.empty()) {
        plans.push_back(method.plan);
      } else if (split == Split::kTest) {
        plans.insert(plans.end(), method.draws.begin(), method.draws.end());
      }
    }
    const std::vector<const SplitResult*> results = task_.evaluate(split, plans);
    size_t next = 0;
    const SplitResult* full = results[0];
    check_scores(*full);
    const SplitResult* pruned = nullptr;
    for (size_t at = 0; at < plans.size(); ++at) {
      const auto is_pruned = [&](const Method& method) {
        return method.result.name == "eep_prune" && method.plan == plans[at];
      };
      if (std::any_of(methods_.begin(), methods_.end(), is_pruned)) pruned = results[at];
    }
    for (Method& method : methods_) {
      std::optional<SplitScore> score;
      if (!method.draws.empty()) {
        if (split != Split::kTest) continue;
        score = make_draws_score(std::span(results).subspan(next, method.draws.size()));
        if (full->score > 0) score->recovery = score->score / full->score;
        next += method.draws.size();
      } else {
        score = make_score(metric, *results[next], method.result.name == "full" ? nullptr : full, seed);
        for (size_t more = 0; more < results[next]->more.size(); ++more)
          score->more.emplace_back(task_.task().more[more].name, results[next]->more[more]);
        if (pruned != nullptr && method.result.evaluations > 0 && method.result.name != "eep_prune")
          score->p_vs_prune = paired_p(metric, *results[next], *pruned, seed);
        if (split == Split::kTest) write_samples(method.result.name, *results[next]);
        ++next;
      }
      (split == Split::kTest  ? method.result.test
       : split == Split::kDev ? method.result.dev
                              : method.result.train) = score;
    }
  }
}

void CombinationRun::write_samples(const std::string& name, const SplitResult& result) {
  const std::string lines = samples_lines(task_.evaluator(Split::kTest).requests(), result);
  write_file_atomic(path("samples/" + name + ".jsonl"), lines);
}

void CombinationRun::write_plan_file(const std::string& file, const ExpertPlan& plan,
                                     const std::string& method) {
  const Json provenance{{"method", method},
                        {"experiment", experiment_.name},
                        {"seed", experiment_.search.seed},
                        {"task", task_.task().name},
                        {"data", task_.train_hash()}};
  write_plan(path(file), plan, plan_info(model_.config(), model_.hash(), provenance));
}

void CombinationRun::make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw Error(ExitCode::kIo, path, "cannot create the directory: " + error.message());
}

Json CombinationRun::run() {
  for (const char* folder : {"checkpoints", "samples", "plans"}) make_directory(path(folder));
  journal_ = std::make_unique<EvaluationJournal>(path("checkpoints/evaluations.journal"));
  const TaskContext::Journaled journaled(task_, journal_.get());
  make_baselines();
  for (Method& method : methods_) {
    method.result.plan = "plans/" + method.result.name + ".json";
    write_plan_file(method.result.plan, method.plan, method.result.name);
  }
  search();
  for (Method& method : methods_) fill_size(model_.config(), method.plan, &method.result);
  final_scores();
  Json methods = Json::array();
  for (const Method& method : methods_) methods.push_back(method_json(method.result));
  Json result{{"format", "eep-result"},
              {"version", kResultVersion},
              {"name", experiment_.name},
              {"seed", experiment_.search.seed},
              {"device", model_.ops().name},
              {"ranks", hooks_.ranks},
              {"weights", dtype_name(model_.dtype())},
              {"precision", model_.precision()},
              {"task",
               {{"name", task_.task().name},
                {"protocol", task_.task().protocol},
                {"metric", task_.task().metric_as}}},
              {"truncated", task_.truncated()},
              {"methods", methods},
              {"search", search_json_}};
  if (mix_.several()) {
    hooks_.say("final evaluation of the further tasks");
    tell_answers_as("final evaluation of the further tasks");
    std::vector<MethodPlans> plans;
    for (const Method& method : methods_)
      plans.push_back({method.result.name, method.draws.empty() ? std::vector{method.plan} : method.draws});
    result["fitness_over"] = experiment_.fitness_over;
    result["tasks"] = mix_.report(plans, experiment_.search.seed);
  }
  if (experiment_.search.objectives.several()) result["pareto"] = front_json();
  if (!task_.overlaps().empty()) result["overlap"] = task_.overlaps();
  if (task_.task().chat_template) result["task"]["chat_template"] = true;
  write_file_atomic(path("result.json"), result.dump(2) + "\n");
  task_.set_progress({});  // the task outlives this object
  journal_->remove();
  export_model(methods_.back().plan);  // last: a failed export leaves the scores
  return result;
}

void CombinationRun::export_model(const ExpertPlan& plan) {
  if (experiment_.export_format == "none") return;
  export_run_model(task_, plan, {{"experiment", experiment_.name}, {"seed", experiment_.search.seed}},
                   path("model"), hooks_);
}

void CombinationRun::finish_export() {
  if (is_exported(experiment_, directory_)) return;
  export_model(read_plan(path("plan.json"), nullptr));
}

}  // namespace eep
