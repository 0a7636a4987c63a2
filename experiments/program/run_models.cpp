#include "experiments/program/run_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "engine/cuda_messages.h"
#include "experiments/program/command_inputs.h"
#include "experiments/study/rank_calibration.h"
#include "kernels/common/expected.h"
#include "loaders/models/zero_experts.h"

namespace eep {

ModelContext& RunModels::model_of(const Experiment& e) {
  const std::string path = resolve_path(e.model_path, e.directory);
  const std::string key = e.model_parity + " " + e.model_precision + " " + path;
  std::unique_ptr<ModelContext>& model = models_[key];
  if (model) return *model;
  if (!context_.options.ops->host_memory && models_.size() > 1) {  // a GPU's memory is planned for one model
    tasks_.clear();
    passes_.clear();
    links_.clear();
    models_.clear();
  }
  const bool divided = stages() > 1 && context_.ranks != nullptr;
  const int32_t number = number_of(e);
  if (divided && stage() == 0) RankStageLink::tell_model(*context_.ranks, stages(), number);
  std::unique_ptr<ModelContext> opened = open_model(path, context_, e.model_parity, e.model_precision,
                                                    divided ? stage() : 0, divided ? stages() : 1);
  if (divided) link(*opened, number);
  ModelContext& made = *(models_[key] = std::move(opened));
  if (stage() > 0) return made;
  for (const ZeroExperts& zero : zero_experts(made.raw()))
    context_.messages.warn(path + ": " + zero_experts_line(zero));
  return made;
}

TaskContext& RunModels::task_of(const Experiment& e) {
  const std::string key = resolve_path(e.model_path, e.directory) + "\n" + TaskContext::key(e);
  std::unique_ptr<TaskContext>& task = tasks_[key];
  if (!task) task = std::make_unique<TaskContext>(model_of(e), context_.options.memory, e);
  return *task;
}

int32_t RunModels::number_of(const Experiment& e) const {
  const auto is_it = [&](const Combination& combination) { return &combination.experiment == &e; };
  return static_cast<int32_t>(std::find_if(combinations_.begin(), combinations_.end(), is_it) -
                              combinations_.begin());
}

void RunModels::link(ModelContext& model, int32_t number) {
  std::unique_ptr<RankStageLink>& link = links_[&model];
  link = std::make_unique<RankStageLink>(*context_.ranks, stage(), number, model, device_rows_);
  model.set_link(link.get());
  if (stage() == 0) link->await_others(room_beside(model.weights(), context_.options.memory));
}

void RunModels::check_stages(int ranks_per_run, bool dry_run) {
  if (stages() == 1) return;
  const int ranks = context_.ranks == nullptr ? 1 : context_.ranks->size();
  const std::string wanted = fmt::format("{}, {}, ...", stages(), 2 * stages());
  if (ranks % stages() != 0 && !(ranks == 1 && dry_run)) {
    throw Error(ExitCode::kUsage, "--pipeline",
                "needs as many ranks, or a multiple" + expected_got(wanted, ranks),
                fmt::format("mpirun -n {} eep run ...", stages()));
  }
  if (ranks_per_run % stages() != 0) {
    throw Error(ExitCode::kUsage, "--ranks-per-run",
                "no multiple of --pipeline" + expected_got(wanted, ranks_per_run));
  }
  if (context_.ranks != nullptr) choose_way_of_rows();
}

void RunModels::choose_way_of_rows() {
  const Device& device = context_.options.device;
  device_rows_ = device_rows_to_mpi(device.kind, context_.ranks->transport().cuda_aware(),
                                    std::getenv("EEP_MPI_DEVICE"));
  if (!device_rows_ || device.kind != DeviceKind::kCuda) return;
  share_cuda_memory();
  context_.ranks->prepare_watcher([index = device.index] { use_cuda_device(index); });
}

void RunModels::serve(const StageRequest& request) {
  ModelContext& model = model_of(combinations_.at(static_cast<size_t>(request.combination)).experiment);
  RankStageLink& link = *links_.at(&model);
  if (request.kind == StageRequest::Kind::kOpen)
    return link.answer(room_beside(model.weights(), context_.options.memory));
  link.set_room(request.room);
  if (request.kind == StageRequest::Kind::kCalibrate && request.prompts.rows() == 0)
    return follow_calibration(request.calibration, model, *context_.ranks);
  std::unique_ptr<PopulationForward>& pass = passes_[&model];
  if (pass == nullptr) {
    pass = std::make_unique<PopulationForward>(model.weights(), context_.options.memory);
  }
  compute_stage(request, model, *pass);
}

}  // namespace eep
