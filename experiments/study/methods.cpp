#include "experiments/study/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace eep {
namespace {

Json score_json(const std::optional<SplitScore>& score, bool test) {
  if (!score) return nullptr;
  Json json{{"score", score->score}, {"n", score->n}};
  if (test) {
    json["stderr"] = score->stderr_;
    json["ci95"] = {score->ci95.low, score->ci95.high};
    json["p_vs_full"] = score->p_vs_full ? Json(*score->p_vs_full) : Json(nullptr);
    if (score->p_vs_prune) json["p_vs_prune"] = *score->p_vs_prune;
    if (score->recovery) json["recovery"] = *score->recovery;
    if (score->recovery_ci95) json["recovery_ci95"] = {score->recovery_ci95->low, score->recovery_ci95->high};
  }
  for (const auto& [name, value] : score->more) json["metrics"][name] = value;
  if (score->stddev) json["stddev"] = *score->stddev;
  if (score->best) json["best"] = *score->best;
  return json;
}

std::string parameters_text(int64_t count) {
  const double value = static_cast<double>(count);
  if (value >= 1e9) return fmt::format("{:.2f}B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  return fmt::format("{:.1f}k", value / 1e3);
}

// "-" in results from before they had it.
std::string gib_text(const Json& method) {
  const auto bytes = method.find("bytes");
  if (bytes == method.end() || !bytes->is_number()) return "-";
  return fmt::format("{:.3g}", bytes->get<double>() / (1024.0 * 1024.0 * 1024.0));
}

// Of the full model's test score.
std::string recovery_text(const Json& method) {
  const Json& test = method.at("test");
  const auto recovery = test.find("recovery");
  if (!test.is_object() || recovery == test.end() || !recovery->is_number()) return "-";
  return fmt::format("{:.1f}", 100 * recovery->get<double>());
}

std::string test_text(const Json& method) {
  const Json& test = method.at("test");
  if (test.is_null()) return "-";
  std::string text =
      fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * test.at("score").get<double>(),
                  100 * test.at("ci95")[0].get<double>(), 100 * test.at("ci95")[1].get<double>());
  if (test.contains("best")) text += fmt::format(" best {:.1f}", 100 * test.at("best").get<double>());
  return text;
}

}  // namespace

std::string aligned(const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::vector<size_t> width(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t column = 0; column < row.size(); ++column)
      width[column] = std::max(width[column], row[column].size());
  }
  std::string out;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::string line;
    for (size_t column = 0; column < rows[i].size(); ++column) {
      line += column < left ? fmt::format("{:<{}}", rows[i][column], width[column])
                            : fmt::format("{:>{}}", rows[i][column], width[column]);
      if (column + 1 < rows[i].size()) line += "  ";
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    if (i == 0) out += std::string(line.size(), '-') + "\n";
  }
  return out;
}

double paired_p(Metric metric, const SplitResult& result, const SplitResult& other, uint64_t seed) {
  const std::vector<double> values = result.metrics(), others = other.metrics();
  return is_binary(metric) ? mcnemar_exact(values, others) : paired_permutation(values, others, seed);
}

SplitScore make_score(Metric metric, const SplitResult& result, const SplitResult* full, uint64_t seed) {
  const std::vector<double> values = result.metrics();
  SplitScore score;
  score.score = result.score;
  score.n = result.n;
  score.stderr_ = standard_error(values);
  score.ci95 = is_binary(metric) ? wilson_interval(result.score * result.n, result.n)
                                 : normal_interval(result.score, score.stderr_);
  if (full != nullptr) {
    score.p_vs_full = paired_p(metric, result, *full, seed);
    if (const std::optional<Ratio> ratio = paired_ratio(values, full->metrics())) {
      score.recovery = ratio->value;
      score.recovery_ci95 = ratio->ci95;
    }
  }
  return score;
}

SplitScore make_draws_score(std::span<const SplitResult* const> draws) {
  std::vector<double> values;
  SplitScore score;
  for (const SplitResult* draw : draws) {
    values.push_back(draw->score);
    score.n = draw->n;
  }
  score.score = mean(values);
  score.stderr_ = standard_error(values);
  score.ci95 = normal_interval(score.score, score.stderr_);
  score.stddev = score.stderr_ * std::sqrt(static_cast<double>(values.size()));
  score.best = *std::max_element(values.begin(), values.end());
  return score;
}

ParameterCounts plan_parameters(const ModelConfig& config, const ExpertPlan& plan) {
  // An expert and its row of the router have the same parameters in every layer.
  const ParameterCounts none = count_parameters(config, 0, 0), all = count_parameters(config);
  const int64_t experts = config.sparse_layers() * config.num_experts;
  const int64_t expert = all.experts / experts, row = (all.total - none.total) / experts - expert;
  ParameterCounts counts = none;
  for (const PlanGroup& group : plan.groups) {
    const auto layers = static_cast<int64_t>(group.layers.size());
    counts.experts += layers * group.kept * expert;
    counts.total += layers * group.kept * (expert + row);
    counts.active += layers * (group.kept * row + std::min(plan.top_k, group.kept) * expert);
  }
  return counts;
}

void fill_size(const ModelConfig& config, const ExpertPlan& plan, MethodResult* method) {
  std::map<int32_t, int32_t> kept;  // layer, experts
  for (const PlanGroup& group : plan.groups) {
    for (const int32_t layer : group.layers) kept[layer] = group.kept;
  }
  int64_t sum = 0;
  int32_t most = 0;
  bool even = true;
  for (const auto& [layer, count] : kept) {
    sum += count;
    most = std::max(most, count);
    even = even && count == kept.begin()->second;
    method->experts_per_layer.push_back(count);
  }
  if (even) method->experts_per_layer.clear();
  const auto layers = static_cast<int64_t>(kept.size());
  method->experts = static_cast<int32_t>(sum / layers);
  method->top_k = std::min(plan.top_k, most);
  method->parameters = plan_parameters(config, plan).total;
  method->bytes = method->parameters * static_cast<int64_t>(dtype_size(config.dtype));
}

Json method_json(const MethodResult& method) {
  Json json{{"name", method.name},
            {"experts", method.experts},
            {"top_k", method.top_k},
            {"parameters", method.parameters},
            {"bytes", method.bytes},
            {"train", score_json(method.train, false)},
            {"dev", score_json(method.dev, false)},
            {"test", score_json(method.test, true)},
            {"evaluations", method.evaluations},
            {"seconds", method.seconds},
            {"plan", method.plan.empty() ? Json(nullptr) : Json(method.plan)}};
  if (method.active) json["active_experts"] = *method.active;
  if (!method.experts_per_layer.empty()) json["experts_per_layer"] = method.experts_per_layer;
  return json;
}

std::string result_table(std::span<const RunRow> runs) {
  const bool labelled =
      std::any_of(runs.begin(), runs.end(), [](const RunRow& run) { return !run.label.empty(); });
  std::vector<std::vector<std::string>> rows{{"task"}};
  if (labelled) rows[0].push_back("run");
  for (const char* column : {"method", "experts", "parameters", "GiB", "test % [95% interval]", "recovery %",
                             "p vs full", "evaluations", "seconds"})
    rows[0].push_back(column);
  std::set<std::tuple<std::string, std::string, std::string>> full_rows;
  for (const RunRow& run : runs) {
    const std::string task = run.result.at("task").at("name").get<std::string>();
    for (const Json& method : run.result.at("methods")) {
      const std::string name = method.at("name").get<std::string>();
      // The same row for every budget and seed of a model and task stands there once.
      if (name == "full" && !full_rows.insert({task, run.label_of_full, test_text(method)}).second) continue;
      const Json p = method.at("test").is_null() ? Json(nullptr) : method.at("test").at("p_vs_full");
      std::vector<std::string> row{task};
      if (labelled) row.push_back(name == "full" ? run.label_of_full : run.label);
      row.insert(row.end(), {name, std::to_string(method.at("experts").get<int64_t>()),
                             parameters_text(method.at("parameters").get<int64_t>()), gib_text(method),
                             test_text(method), recovery_text(method),
                             p.is_null() ? "-" : fmt::format("{:.2g}", p.get<double>()),
                             std::to_string(method.at("evaluations").get<int64_t>()),
                             fmt::format("{:.1f}", method.at("seconds").get<double>())});
      rows.push_back(std::move(row));
    }
  }
  return aligned(rows, labelled ? 3 : 2);
}

std::string full_models_table(std::span<const RunRow> runs) {
  std::vector<std::vector<std::string>> rows{
      {"task", "run", "method", "experts", "parameters", "test % [95% interval]"}};
  std::set<std::pair<std::string, std::string>> known;
  bool several = false;
  for (const RunRow& run : runs) {
    const std::string task = run.result.at("task").at("name").get<std::string>();
    several |= !run.label_of_full.empty();
    for (const Json& method : run.result.at("methods")) {
      const std::string name = method.at("name").get<std::string>();
      if (name != "full" || !known.insert({task, run.label_of_full}).second) continue;
      rows.push_back({task, run.label_of_full, name, std::to_string(method.at("experts").get<int64_t>()),
                      parameters_text(method.at("parameters").get<int64_t>()), test_text(method)});
    }
  }
  return several ? aligned(rows, 3) : "";
}

}  // namespace eep
