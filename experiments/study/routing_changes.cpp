#include "experiments/study/routing_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "engine/coded_matrix.h"
#include "engine/forward.h"
#include "kernels/common/scalar_math.h"

namespace eep {
namespace {

// [rows of the matrix]
std::vector<double> logits_of(const RawMatrix& gate, int64_t rows, const float* x) {
  std::vector<double> logits(static_cast<size_t>(rows), 0.0);
  for (int64_t row = 0; row < rows; ++row) {
    double& sum = logits[static_cast<size_t>(row)];
    for (int64_t column = 0; column < gate.k; ++column)
      sum += static_cast<double>(element_of(gate, row, column)) * static_cast<double>(x[column]);
  }
  return logits;
}

std::vector<double> mapped(const PlanGroup& group, const std::vector<double>& logits) {
  std::vector<double> out(static_cast<size_t>(group.kept), 0.0);
  for (size_t row = 0; row < out.size(); ++row) {
    for (size_t expert = 0; expert < logits.size(); ++expert)
      out[row] += static_cast<double>(group.router_mapping[row * logits.size() + expert]) * logits[expert];
  }
  return out;
}

// The rows of largest logit, ascending; ties to the lower row.
std::vector<size_t> chosen(const std::vector<double>& logits, int32_t top_k) {
  std::vector<size_t> rows(logits.size());
  std::iota(rows.begin(), rows.end(), size_t{0});
  std::stable_sort(rows.begin(), rows.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  rows.resize(std::min(rows.size(), static_cast<size_t>(top_k)));
  std::sort(rows.begin(), rows.end());
  return rows;
}

// What a sigmoid router chooses by: the score and the row's bias, minus infinity outside the chosen groups.
std::vector<double> choice_of(const ModelConfig& config, const std::vector<double>& logits,
                              const std::vector<double>& bias) {
  std::vector<double> choice;
  for (size_t row = 0; row < logits.size(); ++row) choice.push_back(sigmoid_double(logits[row]) + bias[row]);
  const auto groups = static_cast<size_t>(config.router_groups), size = choice.size() / groups;
  std::vector<double> sums;  // of the two largest of each group
  for (size_t group = 0; group < groups; ++group) {
    std::vector<double> best(choice.begin() + static_cast<int64_t>(group * size),
                             choice.begin() + static_cast<int64_t>((group + 1) * size));
    std::sort(best.begin(), best.end(), std::greater<>());
    sums.push_back(size > 1 ? best[0] + best[1] : best[0]);
  }
  const std::vector<size_t> top = chosen(sums, static_cast<int32_t>(config.router_top_groups));
  for (size_t row = 0; row < choice.size(); ++row) {
    if (std::find(top.begin(), top.end(), row / size) == top.end()) choice[row] = -INFINITY;
  }
  return choice;
}

// Of one router: the rows that it chooses.
std::vector<size_t> routed(const ModelConfig& config, const std::vector<double>& logits,
                           const std::vector<double>& bias, int32_t top_k) {
  if (config.router_score == RouterScore::kSigmoid) return chosen(choice_of(config, logits, bias), top_k);
  std::vector<double> biased = logits;
  for (size_t row = 0; row < bias.size(); ++row) biased[row] += bias[row];
  return chosen(biased, top_k);
}

std::vector<double> values_of(const Tensor& bias) {
  if (!bias) return {};
  const RawMatrix column{bias.data, bias.dtype, bias.shape[0], 1, 1, 1};
  std::vector<double> values;
  for (int64_t row = 0; row < column.n; ++row)
    values.push_back(static_cast<double>(element_of(column, row, 0)));
  return values;
}

}  // namespace

RoutingChanges routing_changes(const RawModel& exported, const RawModel& source, const ExpertPlan& plan,
                               std::span<const std::vector<int32_t>> sequences, const Weights& weights,
                               size_t memory) {
  PopulationForward forward(weights, memory);
  RoutingChanges changes;
  for (const std::vector<int32_t>& ids : sequences) {
    Taps taps(weights.backend());
    forward.logits(plan, ids, &taps);
    for (const Tap& tap : taps.list()) {
      if (!tap.name.ends_with("router.input")) continue;
      const auto layer = static_cast<size_t>(tap.layer);
      const auto group = std::find_if(plan.groups.begin(), plan.groups.end(), [&](const PlanGroup& each) {
        return std::find(each.layers.begin(), each.layers.end(), static_cast<int32_t>(tap.layer)) !=
               each.layers.end();
      });
      const std::vector<double> bias = values_of(source.layers[layer].router_bias);
      const std::vector<double> wanted_bias = bias.empty() ? bias : mapped(*group, bias),
                                found_bias = values_of(exported.layers[layer].router_bias);
      for (int64_t row = 0; row < tap.rows; ++row) {
        const float* x = tap.values.data() + row * tap.width;
        const RawMatrix& gate = source.layers[layer].router;
        const std::vector<double> wanted = mapped(*group, logits_of(gate, gate.n, x));
        const std::vector<double> found = logits_of(exported.layers[layer].router, group->kept, x);
        ++changes.tokens;
        changes.changed += routed(source.config, wanted, wanted_bias, plan.top_k) !=
                           routed(source.config, found, found_bias, plan.top_k);
      }
    }
  }
  return changes;
}

std::string RoutingChanges::text() const {
  return fmt::format("{:.2f} % of {} tokens times layers choose other experts",
                     tokens > 0 ? 100.0 * static_cast<double>(changed) / static_cast<double>(tokens) : 0.0,
                     tokens);
}

std::vector<std::vector<int32_t>> routed_sequences(const Requests& requests, int64_t tokens) {
  std::vector<std::vector<int32_t>> sequences;
  for (size_t item = 0; item < requests.items().size() && tokens > 0; ++item) {
    std::vector<int32_t> ids = requests.prompt_tokens(item);
    if (static_cast<int64_t>(ids.size()) > tokens) ids.resize(static_cast<size_t>(tokens));
    tokens -= static_cast<int64_t>(ids.size());
    if (!ids.empty()) sequences.push_back(std::move(ids));
  }
  return sequences;
}

}  // namespace eep
