#include "experiments/study/task_context.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <chrono>
#include <sstream>

#include "engine/weight_sums.h"
#include "es/criteria.h"
#include "es/no_signal.h"
#include "experiments/study/calibration_progress.h"
#include "kernels/common/expected.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr size_t kKeptLayerBytes = size_t{1} << 30;  // at most, of what the memory plan leaves

}  // namespace

std::string TaskContext::key(const Experiment& e) {
  const std::string file = find_task(e.task, e.directory);
  std::string key = file + "\n" + e.protocol + "\n" + e.model_parity + "\n" + e.model_precision +
                    (e.allow_overlap ? "\noverlap" : "");
  if (load_task(file, e.protocol).few_shot.random) key += "\nseed " + std::to_string(e.search.seed);
  for (const TaskUse& use : e.tasks)
    key += fmt::format("\n{} {} {} {}", find_task(use.name, e.directory), use.weight, use.guard, use.test);
  key += "\n" + e.fitness_over;
  for (const SplitUse* use : {&e.train, &e.dev, &e.test})
    key += "\n" + use->split + " " + std::to_string(use->limit);
  key += "\n" + std::to_string(e.search.shards.shard) + " " + std::to_string(e.search.shards.fixed);
  for (int64_t value : {e.calibration_limit, e.subset_tokens, e.sampled_subsets})
    key += "\n" + std::to_string(value);
  key += "\n" + std::to_string(static_cast<int>(needed_statistics(e.baselines)));
  return key;
}

namespace {

// Of a task file without lines that are comments or blank.
std::string hash_of_rules(const std::string& file) {
  std::istringstream lines(read_file(file));
  std::string rules;
  for (std::string line; std::getline(lines, line);) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin != std::string::npos && line[begin] != '#') rules += line + "\n";
  }
  return fmt::format("xxh3:{:016x}", XXH3_64bits(rules.data(), rules.size()));
}

}  // namespace

TaskContext::TaskContext(ModelContext& model, size_t memory, const Experiment& experiment, bool final_only)
    : model_(model),
      memory_(memory),
      experiment_(experiment),
      task_(load_task(find_task(experiment.task, experiment.directory), experiment.protocol)),
      final_only_(final_only) {
  task_.few_shot.seed = experiment_.search.seed;
  use_chat_template(&task_, model_.path());
  if (experiment_.search.shards.shard > 0) {
    fresh_ = make_evaluator(experiment_.train, experiment_.train.limit);
    const auto items = static_cast<int64_t>(fresh_->requests().items().size());
    if (experiment_.search.shards.shard > items) {
      throw Error(ExitCode::kConfig, "task.train.shard",
                  "more items than the split has" +
                      expected_got(fmt::format("1..{}", items), experiment_.search.shards.shard));
    }
    evaluators_[Split::kTrain] = make_evaluator(experiment_.train, shards().fixed);
  }
  for (const auto& [name, split] : splits()) requests(split);
  if (!final_only_) train_hash_ = items_hash(requests(Split::kTrain).items());
  find_overlaps();
  add_further();
}

void TaskContext::add_further() {
  for (size_t i = 1; i < experiment_.tasks.size(); ++i) {
    const TaskUse& use = experiment_.tasks[i];
    Experiment own = experiment_;
    own.tasks.clear();
    own.task = use.name;
    if (!use.test.empty()) own.test.split = use.test;
    const bool seen = use.weight > 0 || use.guard >= 0;
    further_.push_back({use, std::make_unique<TaskContext>(model_, memory_, own, !seen)});
    further_.back().context->mixed_ = mixed_ = true;
  }
}

std::vector<std::pair<const char*, Split>> TaskContext::splits() const {
  std::vector<std::pair<const char*, Split>> all;
  if (!final_only_) all.emplace_back("train", Split::kTrain);
  if (!final_only_ && has_dev()) all.emplace_back("dev", Split::kDev);
  all.emplace_back("test", Split::kTest);
  return all;
}

const Requests& TaskContext::requests(Split split) {
  return split == Split::kTrain ? evaluator(Split::kFresh).requests() : evaluator(split).requests();
}

// A score on items that the search has seen is no estimate: the fitted number would be published.
void TaskContext::find_overlaps() {
  const auto all = splits();
  for (size_t second = 1; second < all.size(); ++second) {
    for (size_t first = 0; first < second; ++first) {
      std::map<std::string, const Item*> known;
      for (const Item& item : requests(all[first].second).items()) known.emplace(item.identity, &item);
      Overlap overlap{all[first].first, all[second].first, 0, {}};
      const std::vector<Item>& items = requests(all[second].second).items();
      for (const Item& item : items) {
        const auto found = known.find(item.identity);
        if (found == known.end()) continue;
        if (overlap.items++ == 0) overlap.text = item.where + " = " + found->second->where;
      }
      if (overlap.items == 0) continue;
      overlap.text = fmt::format("{} of {} items of the {} split are in the {} split too (the first: {})",
                                 overlap.items, items.size(), overlap.second, overlap.first, overlap.text);
      if (!experiment_.allow_overlap) {
        throw Error(ExitCode::kData, task_.file, overlap.text,
                    "take other items, or say task: {allow_overlap: true}");
      }
      overlaps_.push_back(std::move(overlap));
    }
  }
}

Json TaskContext::truncated() {
  Json counts = Json::object();
  for (const auto& [name, split] : splits()) counts[name] = requests(split).truncated();
  return counts;
}

Json TaskContext::overlaps() const {
  Json list = Json::array();
  for (const Overlap& overlap : overlaps_)
    list.push_back({{"splits", {overlap.first, overlap.second}}, {"items", overlap.items}});
  return list;
}

std::vector<std::string> TaskContext::warnings() {
  std::vector<std::string> lines;
  for (const Overlap& overlap : overlaps_) lines.push_back("task " + task_.name + ": " + overlap.text);
  for (const auto& [name, split] : splits()) {
    const std::string line = requests(split).truncation_text(name);
    if (!line.empty()) lines.push_back("task " + task_.name + ": " + line);
  }
  for (const Further& other : further_) {
    const std::vector<std::string> theirs = other.context->warnings();
    lines.insert(lines.end(), theirs.begin(), theirs.end());
  }
  return lines;
}

std::unique_ptr<SplitEvaluator> TaskContext::make_evaluator(const SplitUse& use, int64_t limit) {
  Task task = task_;
  if (&use != &experiment_.test) task.more.clear();  // a search climbs one metric: decoding ends sooner
  auto evaluator = std::make_unique<SplitEvaluator>(model_.weights(), memory_, task,
                                                    load_items(task, use.split, limit), model_.tokenizer());
  evaluator->set_journal(journal_);
  evaluator->set_progress([this](bool decoding, int64_t done, int64_t total) {
    if (progress_) progress_(decoding, done, total);
  });
  return evaluator;
}

void TaskContext::set_progress(const AnswerProgress& progress) {
  progress_ = progress;
  for (const Further& other : further_) other.context->set_progress(progress);
}

void TaskContext::set_journal(EvaluationJournal* journal) {
  journal_ = journal;
  for (const auto& [split, evaluator] : evaluators_) {
    if (evaluator) evaluator->set_journal(journal);
  }
  if (fresh_) fresh_->set_journal(journal);
}

ShardConfig TaskContext::shards() const {
  if (!fresh_) return {};
  const auto items = static_cast<int64_t>(fresh_->requests().items().size());
  const int64_t fixed = experiment_.search.shards.fixed > 0 ? experiment_.search.shards.fixed
                                                            : 4 * experiment_.search.shards.shard;
  return {items, experiment_.search.shards.shard, std::min(items, fixed)};
}

Json TaskContext::hashes() {
  Json hashes{{"train", train_hash_}};
  if (has_dev()) hashes["dev"] = items_hash(evaluator(Split::kDev).requests().items());
  hashes["test"] = items_hash(evaluator(Split::kTest).requests().items());
  for (const Further& other : further_) {
    const std::string prefix = other.context->task().name + "/" + other.use.test + "/";
    if (!other.context->final_only()) hashes[prefix + "train"] = other.context->train_hash();
    hashes[prefix + "test"] = items_hash(other.context->evaluator(Split::kTest).requests().items());
  }
  return hashes;
}

Json TaskContext::input_hashes() {
  Json hashes = Json::object();
  hashes["task file " + task_.name] = hash_of_rules(task_.file);
  for (const auto& [name, split] : splits()) {
    const std::vector<int32_t>& tokens = requests(split).prompts().tokens;
    hashes[fmt::format("tokens of the {} split", name)] =
        fmt::format("xxh3:{:016x}", XXH3_64bits(tokens.data(), tokens.size() * sizeof(int32_t)));
  }
  for (const Further& other : further_)
    hashes["task file " + other.context->task().name] = hash_of_rules(other.context->task().file);
  return hashes;
}

std::vector<SplitResult> TaskContext::score(Split set, std::span<const ExpertPlan> plans,
                                            std::span<const int32_t> items) {
  return divider_ ? divider_(set, plans, items) : score_here(set, plans, items);
}

// Generations resemble each other: until another split is scored, layers of the train items are kept. Not
// with several tasks, each of which would take what the others leave.
void TaskContext::keep_layers(Split scored) {
  if (mixed_) return;
  if (scored == Split::kTrain) return evaluator(scored).keep_layers(kKeptLayerBytes);
  const auto train = evaluators_.find(Split::kTrain);  // a task of the end alone has none
  if (train != evaluators_.end()) train->second->keep_layers(0);
}

std::vector<SplitResult> TaskContext::score_here(Split set, std::span<const ExpertPlan> plans,
                                                 std::span<const int32_t> items) {
  keep_layers(set);
  return items.empty() ? evaluator(set).evaluate(plans) : evaluator(set).evaluate(plans, items);
}

WorkCounts TaskContext::search_work() {
  WorkCounts counts = evaluator(Split::kTrain).work();
  if (fresh_) counts += fresh_->work();
  counts += elsewhere_;
  return counts;
}

const std::string& TaskContext::items_hash_of(Split set) {
  std::string& hash = items_hashes_[set];
  if (hash.empty()) hash = items_hash(evaluator(set).requests().items());
  return hash;
}

SplitEvaluator& TaskContext::evaluator(Split split) {
  if (split == Split::kFresh) return fresh_ ? *fresh_ : evaluator(Split::kTrain);
  std::unique_ptr<SplitEvaluator>& evaluator = evaluators_[split];
  if (!evaluator) {
    const SplitUse& use = split == Split::kTrain ? experiment_.train
                          : split == Split::kDev ? experiment_.dev
                                                 : experiment_.test;
    evaluator = make_evaluator(use, use.limit);
  }
  return *evaluator;
}

std::vector<const SplitResult*> TaskContext::evaluate(Split split, std::span<const ExpertPlan> plans) {
  std::vector<ExpertPlan> fresh;
  std::vector<std::string> keys;
  for (const ExpertPlan& plan : plans) {
    keys.push_back(plan_key(plan));
    if (results_.try_emplace({split, keys.back()}, nullptr).second) fresh.push_back(plan);
  }
  if (!fresh.empty()) {
    std::vector<SplitResult> made = score(split, fresh);
    for (size_t i = 0; i < fresh.size(); ++i) {
      results_[{split, plan_key(fresh[i])}] = std::make_unique<SplitResult>(std::move(made[i]));
    }
  }
  std::vector<const SplitResult*> results;
  for (const std::string& key : keys) results.push_back(results_.at({split, key}).get());
  return results;
}

const ExpertStatistics& TaskContext::statistics(const std::vector<int32_t>& subset_kept,
                                                const std::function<void()>& announce,
                                                const CalibrationProgress& progress, double* seconds) {
  auto found = statistics_.find(subset_kept);
  if (found == statistics_.end())
    found = statistics_.emplace(subset_kept, calibrate_now(subset_kept, announce, progress)).first;
  *seconds = found->second.seconds;
  return found->second.file.statistics;
}

const Requests& TaskContext::calibration_requests(std::unique_ptr<SplitEvaluator>& own) {
  if (experiment_.calibration_limit == 0) return evaluator(Split::kTrain).requests();
  own = make_evaluator(experiment_.train, experiment_.calibration_limit);
  return own->requests();
}

SkipThresholds TaskContext::skip_thresholds(const ExpertPlan& plan, const CalibrationProgress& progress,
                                            double* seconds) {
  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<SplitEvaluator> own;
  const Prompts texts = calibration_requests(own).texts();
  const auto tell = [&](int64_t tokens) { progress(tokens, texts.rows()); };
  SkipThresholds made = threshold_meter_ ? threshold_meter_(plan, texts, tell)
                                         : eep::skip_thresholds(model_.weights(), memory_, plan, texts, tell);
  *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return made;
}

Calibration TaskContext::calibrate_now(const std::vector<int32_t>& subset_kept,
                                       const std::function<void()>& announce,
                                       const CalibrationProgress& progress) {
  std::unique_ptr<SplitEvaluator> own;
  const Requests* requests = &calibration_requests(own);
  Calibration made;
  made.file.model = model_.hash();
  made.file.data = items_hash(requests->items());
  made.file.task = task_.name;
  const CriterionNeeds needs = needed_statistics(experiment_.baselines);
  std::string settings =
      fmt::format("texts {} {} {} {} {} [{}]", task_.file, task_.protocol, experiment_.model_parity,
                  experiment_.subset_tokens, experiment_.sampled_subsets, fmt::join(subset_kept, ","));
  if (needs == CriterionNeeds::kDetails) settings += " details";
  if (needs == CriterionNeeds::kEveryExpert) settings += " every expert";
  if (experiment_.model_precision != "f32") settings += " " + experiment_.model_precision;
  const std::string path =
      fmt::format("{}/calibration-{:016x}.json", cache_, XXH3_64bits(settings.data(), settings.size()));
  if (!cache_.empty()) {
    if (auto kept = read_calibration(path, made.file.model, made.file.data, settings))
      return std::move(*kept);
  }
  announce();
  const auto start = std::chrono::steady_clock::now();
  CalibrationOptions options;
  options.subset_kept = subset_kept;
  options.subset_tokens = experiment_.subset_tokens;
  options.details = needs == CriterionNeeds::kDetails || needs == CriterionNeeds::kEveryExpert;
  options.every_expert = needs == CriterionNeeds::kEveryExpert;
  const int32_t experts = static_cast<int32_t>(model_.config().num_experts);
  options.sample_subsets =
      [&](int32_t /*layer*/, int32_t kept) {  // one list for all layers: a group's layers are compared on it
        return sample_subsets(experts, kept, experiment_.sampled_subsets, static_cast<uint64_t>(kept));
      };
  const Prompts texts = requests->texts();
  if (progress) options.progress = [&](int64_t tokens) { progress(tokens, texts.rows()); };
  const std::string identity = made.file.model + " " + made.file.data + " " + settings;
  const auto pass = [&](const CalibrationOptions& with) {
    return calibrator_ ? calibrator_(texts, with) : calibrate(model_.weights(), memory_, texts, with);
  };
  made.file.statistics =
      cache_.empty() ? pass(options) : calibrate_resumably(pass, options, path + ".state", identity);
  require_finite_statistics(made.file.statistics);
  if (options.details) add_weight_sums(model_.raw(), device().threads, made.file.statistics);
  made.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!cache_.empty()) write_calibration(path, made, settings);
  return made;
}

}  // namespace eep
