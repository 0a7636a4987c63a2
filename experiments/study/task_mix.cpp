#include "experiments/study/task_mix.h"

#include <algorithm>

namespace eep {
namespace {

// Below every fitness that a plan can have.
constexpr double kRuledOut = -1, kRuledOutLoglik = -1e6;

}  // namespace

void add_decisions(const SplitResult& result, Decisions* decisions) {
  for (const ItemScore& item : result.items) {
    decisions->values.insert(decisions->values.end(), item.log_probabilities.begin(),
                             item.log_probabilities.end());
    decisions->item_end.push_back(static_cast<int32_t>(decisions->values.size()));
    decisions->right.push_back(item.right);
  }
}

TaskMix::TaskMix(TaskContext& main, const Experiment& experiment)
    : main_(main), least_(experiment.fitness_over == "min") {
  const TaskUse own = experiment.tasks.empty() ? TaskUse{} : experiment.tasks[0];
  parts_.push_back({&main, own.weight, own.guard, ""});
  for (const TaskContext::Further& other : main.further())
    parts_.push_back({other.context.get(), other.use.weight, other.use.guard, other.use.test});
  if (several() && experiment.search.shards.shard > 0)
    throw Error(ExitCode::kConfig, "task.train.shard",
                "several tasks are scored on fixed items (expected 0)");
  if (several() && experiment.search.racing.on)
    throw Error(ExitCode::kConfig, "search.racing", "several tasks have no items in common (expected false)");
}

const SplitResult& TaskMix::full(const Part& part, Split split) {
  const ModelConfig& config = part.context->model().config();
  const ExpertPlan plan = identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                                        static_cast<int32_t>(config.top_k));
  return *part.context->evaluate(split, std::span(&plan, 1))[0];
}

// results: [part][plan], null where a task has no such split.
std::vector<MixedScore> TaskMix::mix(Split split, std::span<const std::vector<const SplitResult*>> results) {
  std::vector<MixedScore> mixed(results[0].size());
  for (size_t plan = 0; plan < mixed.size(); ++plan) {
    MixedScore& score = mixed[plan];
    double weights = 0;
    bool first = true;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const SplitResult* result = results[i][plan];
      if (result == nullptr) continue;
      const Part& part = parts_[i];
      if (part.guard >= 0) {
        const double lost = 100 * (full(part, split).score - result->score) - part.guard;
        if (lost > 1e-9) score.short_by = std::max(score.short_by, lost);
      }
      if (part.weight <= 0) continue;
      score.n += result->n;
      weights += part.weight;
      if (least_) {
        score.score = first ? result->score : std::min(score.score, result->score);
        score.loglik = first ? result->loglik : std::min(score.loglik, result->loglik);
      } else {
        score.score += part.weight * result->score;
        score.loglik += part.weight * result->loglik;
      }
      first = false;
    }
    if (least_ || weights <= 0) continue;
    score.score /= weights;
    score.loglik /= weights;
  }
  return mixed;
}

std::vector<MixedScore> TaskMix::scores(Split split, std::span<const ExpertPlan> plans) {
  std::vector<std::vector<const SplitResult*>> results;
  for (const Part& part : parts_) {
    const bool there = split == Split::kTest ||
                       (!part.context->final_only() && (split == Split::kTrain || part.context->has_dev()));
    results.push_back(there ? part.context->evaluate(split, plans)
                            : std::vector<const SplitResult*>(plans.size(), nullptr));
  }
  return mix(split, results);
}

std::vector<Evaluation> TaskMix::evaluations(std::span<const ExpertPlan> plans, FitnessKind kind,
                                             bool decisions) {
  std::vector<std::vector<SplitResult>> made;
  std::vector<std::vector<const SplitResult*>> results;
  for (const Part& part : parts_) {
    results.emplace_back(plans.size(), nullptr);
    made.emplace_back();
    if (part.context->final_only()) continue;
    made.back() = part.context->evaluator(Split::kTrain).evaluate(plans);
    for (size_t plan = 0; plan < plans.size(); ++plan) results.back()[plan] = &made.back()[plan];
  }
  const std::vector<MixedScore> mixed = mix(Split::kTrain, results);
  std::vector<Evaluation> evaluations;
  for (size_t plan = 0; plan < plans.size(); ++plan) {
    const MixedScore& score = mixed[plan];
    const bool loglik = kind == FitnessKind::kLoglik;
    double fitness = loglik ? score.loglik : score.score;
    if (score.short_by > 0) fitness += (loglik ? kRuledOutLoglik : kRuledOut) - score.short_by / 100;
    Evaluation evaluation{fitness, score.loglik, score.n, {}};
    for (size_t i = 0; decisions && i < parts_.size(); ++i) {
      if (results[i][plan] != nullptr && parts_[i].weight > 0)
        add_decisions(*results[i][plan], &evaluation.decisions);
    }
    evaluations.push_back(std::move(evaluation));
  }
  return evaluations;
}

WorkCounts TaskMix::further_work() const {
  WorkCounts work;
  for (const TaskContext::Further& other : main_.further()) {
    if (!other.context->final_only()) work += other.context->evaluator(Split::kTrain).work();
  }
  return work;
}

Json TaskMix::report(std::span<const MethodPlans> methods, uint64_t seed) {
  Json tasks = Json::array();
  for (const Part& part : parts_) {
    const Task& task = part.context->task();
    Json json{{"name", task.name},
              {"metric", task.metric_as},
              {"weight", part.weight},
              {"guard", part.guard >= 0 ? Json(part.guard) : Json(nullptr)}};
    if (!part.test.empty()) json["split"] = part.test;
    const SplitResult& all = full(part, Split::kTest);
    json["n"] = all.n;
    for (const MethodPlans& method : methods) {
      const std::vector<const SplitResult*> results = part.context->evaluate(Split::kTest, method.plans);
      const SplitScore score = results.size() > 1 ? make_draws_score(results)
                                                  : make_score(task.metric, *results[0],
                                                               results[0] == &all ? nullptr : &all, seed);
      json["test"][method.name] = {{"score", score.score}, {"ci95", {score.ci95.low, score.ci95.high}}};
      if (score.p_vs_full) json["test"][method.name]["p_vs_full"] = *score.p_vs_full;
    }
    tasks.push_back(std::move(json));
  }
  return tasks;
}

}  // namespace eep
