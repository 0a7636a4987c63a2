// RunModels: the models and tasks of a run's combinations, each opened once. Where a model's layers are
// divided over ranks (engine/stages.h), this one's part of them, with the way to the others.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "experiments/program/program.h"
#include "experiments/study/experiment.h"
#include "experiments/study/stage_link.h"
#include "experiments/study/task_context.h"

namespace eep {

class RunModels {
 public:
  using Tasks = std::map<std::string, std::unique_ptr<TaskContext>>;

  // combinations: read when the first model is asked for. pipeline: stages of each model, 0 or 1: it is
  // whole.
  RunModels(CommandContext& context, const std::vector<Combination>& combinations, const int& pipeline)
      : context_(context), combinations_(combinations), pipeline_(pipeline) {}

  ModelContext& model_of(const Experiment& e);
  TaskContext& task_of(const Experiment& e);
  const Tasks& tasks() const { return tasks_; }

  int stages() const { return pipeline_ > 1 ? pipeline_ : 1; }
  int stage() const { return context_.ranks == nullptr ? 0 : context_.ranks->rank() % stages(); }
  // Throws Error(kUsage) where ranks cannot be divided so. ranks_per_run: 0: not given.
  void check_stages(int ranks_per_run, bool dry_run);
  // Of a later stage: answers one call of the first one.
  void serve(const StageRequest& request);

 private:
  void choose_way_of_rows();
  int32_t number_of(const Experiment& e) const;
  void link(ModelContext& model, int32_t number);

  CommandContext& context_;
  const std::vector<Combination>& combinations_;
  const int& pipeline_;
  bool device_rows_ = false;  // between stages, as device_rows_to_mpi says
  std::map<std::string, std::unique_ptr<ModelContext>> models_;
  std::map<const ModelContext*, std::unique_ptr<RankStageLink>> links_;
  std::map<const ModelContext*, std::unique_ptr<PopulationForward>> passes_;  // of a later stage
  Tasks tasks_;
};

}  // namespace eep
