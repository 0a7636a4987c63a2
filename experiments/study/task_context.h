// A task on a model, shared by all combinations of a sweep that need it: the splits' evaluators, the results
// of plans that were evaluated already (the full model, baselines), and the calibration statistics.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/calibration.h"
#include "engine/skip_thresholds.h"
#include "es/shards.h"
#include "experiments/study/calibration_cache.h"
#include "experiments/study/evaluation_journal.h"
#include "experiments/study/evaluator.h"
#include "experiments/study/experiment.h"
#include "experiments/study/model_context.h"
#include "loaders/formats/json.h"

namespace eep {

// kFresh: all items of the train split that shards are made of.
enum class Split : uint8_t { kTrain = 0, kDev = 1, kTest = 2, kFresh = 3 };

class TaskContext {
 public:
  // Reads all splits: what is wrong with the form of one is found before the work begins. The test split is
  // scored by the first call that asks for it. Throws Error(kData) for items that two splits have in common
  // unless the experiment allows them.
  // final_only: the test split alone, of a task that no search sees.
  TaskContext(ModelContext& model, size_t memory, const Experiment& experiment, bool final_only = false);

  const Task& task() const { return task_; }
  // The experiment's further tasks, with what they count for.
  struct Further {
    TaskUse use;
    std::unique_ptr<TaskContext> context;
  };
  std::span<const Further> further() const { return further_; }
  bool final_only() const { return final_only_; }
  ModelContext& model() const { return model_; }
  const Device& device() const { return model_.weights().device(); }
  size_t memory() const { return memory_; }
  bool has_dev() const { return task_.data.count(experiment_.dev.split) != 0; }
  // With shards the train split's first items: those that candidates of different generations compare on.
  SplitEvaluator& evaluator(Split split);
  // One result a plan, on all items of a set or on some: by this process, or as divide_by() says.
  std::vector<SplitResult> score(Split set, std::span<const ExpertPlan> plans,
                                 std::span<const int32_t> items = {});
  std::vector<SplitResult> score_here(Split set, std::span<const ExpertPlan> plans,
                                      std::span<const int32_t> items = {});
  using Divider = std::function<std::vector<SplitResult>(Split set, std::span<const ExpertPlan> plans,
                                                         std::span<const int32_t> items)>;
  void divide_by(Divider divider) { divider_ = std::move(divider); }
  // calibrate() of engine/calibration.h: by this process, or as calibrate_by() says.
  using Calibrator =
      std::function<ExpertStatistics(const Prompts& prompts, const CalibrationOptions& options)>;
  void calibrate_by(Calibrator calibrator) { calibrator_ = std::move(calibrator); }
  // skip_thresholds() of engine/skip_thresholds.h, likewise.
  using ThresholdMeter = std::function<SkipThresholds(const ExpertPlan& plan, const Prompts& prompts,
                                                      const std::function<void(int64_t)>& progress)>;
  void measure_thresholds_by(ThresholdMeter meter) { threshold_meter_ = std::move(meter); }
  // Of everything on train items, other processes' included.
  WorkCounts search_work();
  void add_work(const WorkCounts& work) { elsewhere_ += work; }
  const std::string& items_hash_of(Split set);
  EvaluationJournal* journal() const { return journal_; }
  // Of this process's evaluations from now on, those of the further tasks too; may be empty.
  void set_progress(const AnswerProgress& progress);
  const AnswerProgress& progress() const { return progress_; }
  ShardConfig shards() const;
  // Results in the order of the plans; equal plans are evaluated once per process.
  std::vector<const SplitResult*> evaluate(Split split, std::span<const ExpertPlan> plans);
  // One calibration pass over the train split, with subset errors for the given kept counts; read from the
  // cache where an earlier run of the same directory has made it. `announce` is called before a pass,
  // `progress` as it goes on, in tokens. seconds: what it took.
  using CalibrationProgress = std::function<void(int64_t done, int64_t total)>;
  const ExpertStatistics& statistics(const std::vector<int32_t>& subset_kept,
                                     const std::function<void()>& announce,
                                     const CalibrationProgress& progress, double* seconds);
  // Thresholds of a plan that skips experts, by a pass over the texts that statistics() reads. seconds: what
  // it took is added.
  SkipThresholds skip_thresholds(const ExpertPlan& plan, const CalibrationProgress& progress,
                                 double* seconds);
  // While one lives, evaluations are kept in the journal and looked up there.
  class Journaled {
   public:
    Journaled(TaskContext& task, EvaluationJournal* journal) : task_(task) { task_.set_journal(journal); }
    ~Journaled() { task_.set_journal(nullptr); }
    Journaled(const Journaled&) = delete;
    Journaled& operator=(const Journaled&) = delete;

   private:
    TaskContext& task_;
  };
  // Directory in which calibration passes are kept from now on.
  void cache_in(const std::string& directory) { cache_ = directory; }
  std::string train_hash() const { return train_hash_; }
  // Of the items of the splits, by name.
  Json hashes();
  // Of what turns items into scores: the task files without comments, and the tokens of every split, by name.
  Json input_hashes();
  // Sequences cut to fit the model, by split; [{splits: [a, b], items: n}].
  Json truncated();
  Json overlaps() const;
  // A line for each of the two that is not empty.
  std::vector<std::string> warnings();

  // The identity of everything that the context depends on.
  static std::string key(const Experiment& experiment);

 private:
  void set_journal(EvaluationJournal* journal);
  struct Overlap {
    const char *first, *second;
    int64_t items = 0;
    std::string text;
  };

  void keep_layers(Split scored);
  void find_overlaps();
  void add_further();
  std::vector<std::pair<const char*, Split>> splits() const;
  const Requests& requests(Split split);  // of all items of the split, with shards too
  std::unique_ptr<SplitEvaluator> make_evaluator(const SplitUse& use, int64_t limit);
  // The train split's requests, or those of its first calibration.limit items, which `own` then holds.
  const Requests& calibration_requests(std::unique_ptr<SplitEvaluator>& own);
  Calibration calibrate_now(const std::vector<int32_t>& subset_kept, const std::function<void()>& announce,
                            const CalibrationProgress& progress);

  ModelContext& model_;
  size_t memory_;
  Experiment experiment_;
  Task task_;
  bool final_only_;
  bool mixed_ = false;  // one of several tasks
  std::vector<Further> further_;
  std::string train_hash_;
  std::vector<Overlap> overlaps_;
  std::string cache_;  // directory, or ""
  EvaluationJournal* journal_ = nullptr;
  AnswerProgress progress_;
  std::map<Split, std::unique_ptr<SplitEvaluator>> evaluators_;
  std::unique_ptr<SplitEvaluator> fresh_;  // with shards
  Divider divider_;
  Calibrator calibrator_;
  WorkCounts elsewhere_;
  std::map<Split, std::string> items_hashes_;
  std::map<std::pair<Split, std::string>, std::unique_ptr<SplitResult>> results_;
  std::map<std::vector<int32_t>, Calibration> statistics_;
  ThresholdMeter threshold_meter_;
};

}  // namespace eep
