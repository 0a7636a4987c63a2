// Rows of a result: what each method scores on each split, as result.json and the table hold them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/config.h"
#include "engine/expert_plan.h"
#include "experiments/study/evaluator.h"
#include "loaders/formats/json.h"
#include "loaders/tasks/metric.h"
#include "loaders/tasks/statistics.h"

namespace eep {

struct SplitScore {
  double score = 0;
  int32_t n = 0;
  double stderr_ = 0;
  Interval ci95;
  std::optional<double> p_vs_full;
  std::optional<double> p_vs_prune;  // of a searched plan against the pruned one
  std::optional<double> recovery;    // the score over the full model's
  std::optional<Interval> recovery_ci95;
  std::optional<double> stddev, best;                // over draws
  std::vector<std::pair<std::string, double>> more;  // the task's other metrics
};

struct MethodResult {
  std::string name;
  int32_t experts = 0;                       // kept in a layer; where layers differ, their mean rounded down
  std::vector<int32_t> experts_per_layer{};  // where they differ
  int32_t top_k = 0;
  std::optional<double> active{};  // experts a token and layer, where some are skipped: of calibration
  int64_t parameters = 0;
  int64_t bytes = 0;
  std::optional<SplitScore> train, dev, test;
  int64_t evaluations = 0;
  double seconds = 0;
  std::string plan;  // file in the run directory, or ""
};

// 95% interval by Wilson for 0/1 metrics, by the normal approximation otherwise; p against `full` on the same
// items, null for full itself.
SplitScore make_score(Metric metric, const SplitResult& result, const SplitResult* full, uint64_t seed);
// Two-sided, of the same items: McNemar's exact test for 0/1 metrics, sign flips otherwise.
double paired_p(Metric metric, const SplitResult& result, const SplitResult& other, uint64_t seed);
// The mean over draws of a random method.
SplitScore make_draws_score(std::span<const SplitResult* const> draws);

// Parameters of the checkpoint that the plan makes.
ParameterCounts plan_parameters(const ModelConfig& config, const ExpertPlan& plan);
// Experts, top_k, parameters and bytes of the checkpoint that the plan makes.
void fill_size(const ModelConfig& config, const ExpertPlan& plan, MethodResult* method);

Json method_json(const MethodResult& method);

// One run of a table: its result.json, and the swept fields that tell it from others of the same task and
// budget ("" where there are none), with and without the seed.
struct RunRow {
  Json result;
  std::string label;
  std::string label_without_seed;
  std::string directory{};      // where its samples/ lie, or ""
  std::string label_of_full{};  // of what tells the full model from others
};

// Columns: task, (run,) method, experts, parameters, test accuracy with its interval, p, evaluations,
// seconds.
std::string result_table(std::span<const RunRow> runs);
// The full models of a sweep over models or tasks, a row each: task, run, method, experts, parameters, test
// accuracy with its interval. "" where there is but one.
std::string full_models_table(std::span<const RunRow> runs);
// Cells as lines, columns aligned by their widest cell; the first `left` to the left, the others to the
// right.
std::string aligned(const std::vector<std::vector<std::string>>& rows, size_t left);

}  // namespace eep
