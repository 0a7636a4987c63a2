// Several tasks in one search: what a plan is worth over all of them, and which plans a guard rules out.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "es/search.h"
#include "experiments/study/methods.h"
#include "experiments/study/task_context.h"

namespace eep {

// A plan on one split, over all tasks with a weight.
struct MixedScore {
  double score = 0;     // the weighted mean of the tasks' metrics, or the least of them
  double loglik = 0;    // the same of the log-likelihoods
  int32_t n = 0;        // items of all tasks
  double short_by = 0;  // points that a guarded task lacks, the worst one; 0: allowed
};

// A method's plans: one, or the draws that are averaged.
struct MethodPlans {
  std::string name;
  std::vector<ExpertPlan> plans;
};

class TaskMix {
 public:
  // Throws Error(kConfig) for settings that several tasks do not know (shards).
  TaskMix(TaskContext& main, const Experiment& experiment);

  bool several() const { return !main_.further().empty(); }
  // One a plan. A single task's own score where there is one task.
  std::vector<MixedScore> scores(Split split, std::span<const ExpertPlan> plans);
  // The same on the train splits for a search: a plan that a guard rules out is worse than every one that
  // none does, the more it lacks the worse.
  std::vector<Evaluation> evaluations(std::span<const ExpertPlan> plans, FitnessKind kind, bool decisions);
  // What scoring the further tasks has cost so far.
  WorkCounts further_work() const;
  // Test scores of every method on every task, for result.json.
  Json report(std::span<const MethodPlans> methods, uint64_t seed);

 private:
  struct Part {
    TaskContext* context;
    double weight, guard;
    std::string test;
  };
  const SplitResult& full(const Part& part, Split split);
  std::vector<MixedScore> mix(Split split, std::span<const std::vector<const SplitResult*>> results);

  TaskContext& main_;
  bool least_;
  std::vector<Part> parts_;  // the main task first
};

// What each item decided by: the tokens of its right answer, or its choices; appended.
void add_decisions(const SplitResult& result, Decisions* decisions);

}  // namespace eep
