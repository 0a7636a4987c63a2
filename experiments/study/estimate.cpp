#include "experiments/study/estimate.h"

#include <algorithm>
#include <chrono>

#include "es/criteria.h"

namespace eep {
namespace {

constexpr int32_t kCandidates = 4;

// Random subsets a layer; for the merge phase with a little of every expert in every row, a different little
// for every candidate.
std::vector<ExpertPlan> candidates(const ModelConfig& config, const Experiment& experiment, bool merge) {
  const auto groups = split_layers(config.sparse, static_cast<int32_t>(config.sparse_layers()));
  std::vector<ExpertPlan> plans;
  for (int32_t draw = 0; draw < std::min(kCandidates, experiment.search.population); ++draw) {
    plans.push_back(random_plan(
        static_cast<int32_t>(config.num_experts),
        std::vector<int32_t>(groups.size(), static_cast<int32_t>(usual_experts(experiment, config))),
        /*seed=*/0, static_cast<uint32_t>(draw), groups, static_cast<int32_t>(config.top_k),
        RouterSpace::kLogits));
    if (!merge) continue;
    for (PlanGroup& group : plans.back().groups) {
      for (float& value : group.expert_merging) value += 0.01f * static_cast<float>(draw + 1);
    }
  }
  return plans;
}

}  // namespace

int64_t usual_experts(const Experiment& experiment, const ModelConfig& config) {
  if (experiment.counts.total == 0) return experiment.experts;
  const int64_t layers = config.sparse_layers();
  return std::clamp<int64_t>((experiment.counts.total + layers - 1) / layers, 1, config.num_experts);
}

double measure_candidate(ModelContext& model, TaskContext& task, const Experiment& experiment, bool merge) {
  const std::vector<ExpertPlan> plans = candidates(model.config(), experiment, merge);
  SplitEvaluator& evaluator = task.evaluator(Split::kTrain);
  const auto start = std::chrono::steady_clock::now();
  evaluator.evaluate(plans);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
         static_cast<double>(plans.size());
}

}  // namespace eep
