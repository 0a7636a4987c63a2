#include "experiments/estimate.h"

#include <algorithm>
#include <chrono>

#include "es/criteria.h"

namespace eep {
namespace {

constexpr int32_t kCandidates = 4;

// Random subsets a layer; for the merge phase with a little of every expert in every row, a different little
// for every candidate.
std::vector<ExpertPlan> candidates(const ModelConfig& config, const Experiment& experiment, bool merge) {
  ExpertStatistics sizes;  // the random criterion reads the number of experts alone
  sizes.experts = static_cast<int32_t>(config.num_experts);
  Criterion criterion;
  criterion.kind = CriterionKind::kRandom;
  const auto groups = split_layers(config.sparse, static_cast<int32_t>(config.sparse_layers()));
  std::vector<ExpertPlan> plans;
  for (; static_cast<int32_t>(criterion.draw) < std::min(kCandidates, experiment.search.population);
       ++criterion.draw) {
    plans.push_back(select_plan(sizes, criterion, static_cast<int32_t>(experiment.experts), groups,
                                static_cast<int32_t>(config.top_k), RouterSpace::kLogits));
    if (!merge) continue;
    for (PlanGroup& group : plans.back().groups) {
      for (float& value : group.expert_merging) value += 0.01f * static_cast<float>(criterion.draw + 1);
    }
  }
  return plans;
}

}  // namespace

double measure_candidate(ModelContext& model, TaskContext& task, const Experiment& experiment, bool merge) {
  const std::vector<ExpertPlan> plans = candidates(model.config(), experiment, merge);
  SplitEvaluator& evaluator = task.evaluator(Split::kTrain);
  const auto start = std::chrono::steady_clock::now();
  evaluator.evaluate(plans);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
         static_cast<double>(plans.size());
}

}  // namespace eep
