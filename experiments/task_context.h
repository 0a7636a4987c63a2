// A task on a model, shared by all combinations of a sweep that need it: the splits' evaluators, the results
// of plans that were evaluated already (the full model, baselines), and the calibration statistics.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/calibration.h"
#include "experiments/evaluator.h"
#include "experiments/model_context.h"
#include "loaders/experiment.h"

namespace eep {

enum class Split : uint8_t { kTrain = 0, kDev = 1, kTest = 2 };

class TaskContext {
 public:
  // Reads the train and dev splits; the test split is read by the first call that asks for it.
  TaskContext(ModelContext& model, const Device& device, size_t memory, const Experiment& experiment);

  const Task& task() const { return task_; }
  bool has_dev() const { return task_.data.count(experiment_.dev.split) != 0; }
  SplitEvaluator& evaluator(Split split);
  // Results in the order of the plans; equal plans are evaluated once per process.
  std::vector<const SplitResult*> evaluate(Split split, std::span<const ExpertPlan> plans);
  // One calibration pass over the train split, with subset errors for the given kept counts. seconds: what it
  // took.
  const ExpertStatistics& statistics(const std::vector<int32_t>& subset_kept, double* seconds);
  std::string train_hash() const { return train_hash_; }

  // The identity of everything that the context depends on.
  static std::string key(const Experiment& experiment);

 private:
  std::unique_ptr<SplitEvaluator> make_evaluator(const SplitUse& use, int64_t limit);

  ModelContext& model_;
  Device device_;
  size_t memory_;
  Experiment experiment_;
  Task task_;
  std::string train_hash_;
  std::map<Split, std::unique_ptr<SplitEvaluator>> evaluators_;
  std::map<std::pair<Split, std::string>, std::unique_ptr<SplitResult>> results_;
  std::map<std::vector<int32_t>, std::pair<ExpertStatistics, double>> statistics_;
};

// Bytes that are equal for equal plans.
std::string plan_key(const ExpertPlan& plan);

}  // namespace eep
