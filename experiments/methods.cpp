#include "experiments/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace eep {
namespace {

Json score_json(const std::optional<SplitScore>& score, bool test) {
  if (!score) return nullptr;
  Json json{{"score", score->score}, {"n", score->n}};
  if (test) {
    json["stderr"] = score->stderr_;
    json["ci95"] = {score->ci95.low, score->ci95.high};
    json["p_vs_full"] = score->p_vs_full ? Json(*score->p_vs_full) : Json(nullptr);
  }
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

std::string test_text(const Json& method) {
  const Json& test = method.at("test");
  if (test.is_null()) return "-";
  std::string text =
      fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * test.at("score").get<double>(),
                  100 * test.at("ci95")[0].get<double>(), 100 * test.at("ci95")[1].get<double>());
  if (test.contains("best")) text += fmt::format(" best {:.1f}", 100 * test.at("best").get<double>());
  return text;
}

// Columns aligned by their widest cell; the first two to the left.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t column = 0; column < row.size(); ++column)
      width[column] = std::max(width[column], row[column].size());
  }
  std::string out;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::string line;
    for (size_t column = 0; column < rows[i].size(); ++column) {
      line += column < 2 ? fmt::format("{:<{}}", rows[i][column], width[column])
                         : fmt::format("{:>{}}", rows[i][column], width[column]);
      if (column + 1 < rows[i].size()) line += "  ";
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    if (i == 0) out += std::string(line.size(), '-') + "\n";
  }
  return out;
}

}  // namespace

SplitScore make_score(Metric metric, const SplitResult& result, const SplitResult* full, uint64_t seed) {
  const std::vector<double> values = result.metrics();
  SplitScore score;
  score.score = result.score;
  score.n = result.n;
  score.stderr_ = standard_error(values);
  score.ci95 = is_binary(metric) ? wilson_interval(result.score * result.n, result.n)
                                 : normal_interval(result.score, score.stderr_);
  if (full != nullptr) {
    const std::vector<double> others = full->metrics();
    score.p_vs_full =
        is_binary(metric) ? mcnemar_exact(values, others) : paired_permutation(values, others, seed);
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

void fill_size(const ModelConfig& config, MethodResult* method) {
  method->parameters = count_parameters(config, method->experts, method->top_k).total;
  method->bytes = method->parameters * static_cast<int64_t>(dtype_size(config.dtype));
}

Json method_json(const MethodResult& method) {
  return {{"name", method.name},
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
}

std::string result_table(std::span<const Json> results) {
  std::vector<std::vector<std::string>> rows{{"task", "method", "experts", "parameters",
                                              "test % [95% interval]", "p vs full", "evaluations",
                                              "seconds"}};
  std::string last_full;
  for (const Json& result : results) {
    const std::string task = result.at("task").at("name").get<std::string>();
    for (const Json& method : result.at("methods")) {
      const std::string name = method.at("name").get<std::string>();
      if (name == "full") {  // the same row for every budget of a task
        const std::string key = task + test_text(method);
        if (key == last_full) continue;
        last_full = key;
      }
      const Json p = method.at("test").is_null() ? Json(nullptr) : method.at("test").at("p_vs_full");
      rows.push_back({task, name, std::to_string(method.at("experts").get<int64_t>()),
                      parameters_text(method.at("parameters").get<int64_t>()), test_text(method),
                      p.is_null() ? "-" : fmt::format("{:.2g}", p.get<double>()),
                      std::to_string(method.at("evaluations").get<int64_t>()),
                      fmt::format("{:.1f}", method.at("seconds").get<double>())});
    }
  }
  return aligned(rows);
}

std::string seeds_table(std::span<const Json> results) {
  std::map<std::tuple<std::string, int64_t, std::string>, std::vector<double>> scores;
  std::vector<std::tuple<std::string, int64_t, std::string>> order;
  for (const Json& result : results) {
    for (const Json& method : result.at("methods")) {
      if (method.at("test").is_null()) continue;
      const std::tuple key{result.at("task").at("name").get<std::string>(),
                           method.at("experts").get<int64_t>(), method.at("name").get<std::string>()};
      if (scores.count(key) == 0) order.push_back(key);
      scores[key].push_back(method.at("test").at("score").get<double>());
    }
  }
  std::vector<std::vector<std::string>> rows{
      {"task", "method", "experts", "seeds", "mean test % [95% interval]"}};
  for (const auto& key : order) {
    const std::vector<double>& values = scores[key];
    const Interval interval = normal_interval(mean(values), standard_error(values));
    rows.push_back({std::get<0>(key), std::get<2>(key), std::to_string(std::get<1>(key)),
                    std::to_string(values.size()),
                    fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * mean(values), 100 * interval.low,
                                100 * interval.high)});
  }
  return aligned(rows);
}

}  // namespace eep
