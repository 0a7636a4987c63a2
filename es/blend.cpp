#include "es/blend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

[[noreturn]] void differ(const Domain& first, const Domain& other, const std::string& what,
                         const std::string& expected, const std::string& got) {
  throw Error(
      ExitCode::kData, other.name,
      fmt::format("statistics of another model than {}: {}", first.name, what) + expected_got(expected, got),
      "blend score files of one model");
}

std::string layer_list(const ExpertStatistics& statistics) {
  std::string text;
  for (const LayerStatistics& layer : statistics.layers) {
    text += (text.empty() ? "" : ", ") + std::to_string(layer.layer);
  }
  return text;
}

void add(const std::vector<double>& values, double weight, std::vector<double>& total) {
  if (values.size() != total.size()) {  // a file without this sum
    total.clear();
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) total[i] += weight * values[i];
}

std::vector<double> scaled(const std::vector<double>& values, double weight) {
  std::vector<double> product = values;
  for (double& value : product) value *= weight;
  return product;
}

// The subsets of both, errors added.
SubsetErrors common(const SubsetErrors& total, const SubsetErrors& other, double weight) {
  std::map<std::vector<int32_t>, double> known;
  for (size_t i = 0; i < other.subsets.size(); ++i) known.emplace(other.subsets[i], other.error[i]);
  SubsetErrors both;
  both.kept = total.kept;
  both.exhaustive = total.exhaustive && other.exhaustive;
  if (total.norm > 0 && other.norm > 0) both.norm = total.norm + weight * other.norm;
  for (size_t i = 0; i < total.subsets.size(); ++i) {
    const auto found = known.find(total.subsets[i]);
    if (found == known.end()) continue;
    both.subsets.push_back(total.subsets[i]);
    both.error.push_back(total.error[i] + weight * found->second);
  }
  return both;
}

LayerStatistics scaled_layer(const LayerStatistics& layer, double weight) {
  LayerStatistics result = layer;
  for (size_t sum = 0; sum < kExpertSums; ++sum) {
    if (sum_rule(static_cast<ExpertSum>(sum)) == SumRule::kAdds)
      result.sums[sum] = scaled(layer.sums[sum], weight);
  }
  for (SubsetErrors& errors : result.subset_errors) {
    errors.error = scaled(errors.error, weight);
    errors.norm *= weight;
  }
  for (size_t matrix = 0; matrix < kExpertMatrices; ++matrix) {
    if (matrix_adds(static_cast<ExpertMatrix>(matrix)))
      result.matrices[matrix] = scaled(layer.matrices[matrix], weight);
  }
  return result;
}

void add_layer(const LayerStatistics& layer, double weight, LayerStatistics& total) {
  for (size_t sum = 0; sum < kExpertSums; ++sum) {
    std::vector<double>& values = total.sums[sum];
    switch (sum_rule(static_cast<ExpertSum>(sum))) {
      case SumRule::kAdds:
        add(layer.sums[sum], weight, values);
        break;
      case SumRule::kLargest:
        for (size_t i = 0; i < values.size(); ++i) values[i] = std::max(values[i], layer.sums[sum][i]);
        break;
      case SumRule::kOfModel:
        if (values.empty()) values = layer.sums[sum];
        break;
      case SumRule::kOfText:
        values.clear();
    }
  }
  for (size_t matrix = 0; matrix < kExpertMatrices; ++matrix) {
    if (matrix_adds(static_cast<ExpertMatrix>(matrix)))
      add(layer.matrices[matrix], weight, total.matrices[matrix]);
    else
      total.matrices[matrix].clear();
  }
  std::vector<SubsetErrors> errors;
  for (const SubsetErrors& mine : total.subset_errors) {
    for (const SubsetErrors& other : layer.subset_errors) {
      if (other.kept == mine.kept) errors.push_back(common(mine, other, weight));
    }
  }
  total.subset_errors = std::move(errors);
}

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum;
}

// [experts]: those of the group that stay, or are merged into one that does.
std::vector<bool> members(const PlanGroup& group) {
  std::vector<bool> kept(static_cast<size_t>(group.experts), false);
  for (size_t i = 0; i < group.expert_merging.size(); ++i) {
    if (group.expert_merging[i] != 0.0f) kept[i % static_cast<size_t>(group.experts)] = true;
  }
  return kept;
}

double share(const std::vector<double>& values, const std::vector<bool>& kept) {
  double inside = 0;
  const double all = sum_of(values);
  for (size_t i = 0; i < values.size() && i < kept.size(); ++i) inside += kept[i] ? values[i] : 0.0;
  return all > 0 ? inside / all : 1.0;  // no signal: nothing is lost
}

}  // namespace

void check_same_model(std::span<const Domain> domains) {
  const Domain& first = domains.front();
  const ExpertStatistics& own = first.file.statistics;
  for (const Domain& other : domains.subspan(1)) {
    const ExpertStatistics& statistics = other.file.statistics;
    if (statistics.experts != own.experts) {
      differ(first, other, "experts", std::to_string(own.experts), std::to_string(statistics.experts));
    }
    if (statistics.top_k != own.top_k) {
      differ(first, other, "active experts", std::to_string(own.top_k), std::to_string(statistics.top_k));
    }
    if (layer_list(statistics) != layer_list(own)) {
      differ(first, other, "layers", layer_list(own), layer_list(statistics));
    }
    if (!first.file.model.empty() && !other.file.model.empty() && first.file.model != other.file.model) {
      differ(first, other, "hash", first.file.model, other.file.model);
    }
  }
}

ExpertStatistics blended(std::span<const Domain> domains) {
  if (domains.size() == 1) return domains.front().file.statistics;  // a weight alone changes no choice
  ExpertStatistics total = domains.front().file.statistics;
  double tokens = domains.front().weight * static_cast<double>(total.tokens);
  for (LayerStatistics& layer : total.layers) layer = scaled_layer(layer, domains.front().weight);
  for (const Domain& domain : domains.subspan(1)) {
    tokens += domain.weight * static_cast<double>(domain.file.statistics.tokens);
    for (size_t i = 0; i < total.layers.size(); ++i) {
      add_layer(domain.file.statistics.layers[i], domain.weight, total.layers[i]);
    }
  }
  total.tokens = static_cast<int64_t>(std::llround(tokens));
  return total;
}

void balance(std::vector<Domain>& domains) {
  double all = 0;
  for (const Domain& domain : domains) all += static_cast<double>(domain.file.statistics.tokens);
  for (Domain& domain : domains) {
    const auto tokens = static_cast<double>(std::max<int64_t>(domain.file.statistics.tokens, 1));
    domain.weight *= all / tokens;
  }
}

Coverage coverage(const ExpertStatistics& statistics, const CriterionRow& criterion, const ExpertPlan& plan) {
  Coverage result;
  result.worst_calls = 2;
  double layers = 0;
  for (const PlanGroup& group : plan.groups) {
    const std::vector<bool> kept = members(group);
    for (const int32_t index : group.layers) {
      const LayerStatistics& layer = layer_statistics(statistics, index);
      const double calls = share(layer[ExpertSum::kCount], kept);
      result.calls += calls;
      if (criterion.scores != nullptr) result.score += share(criterion.scores(layer), kept);
      if (calls < result.worst_calls) {
        result.worst_calls = calls;
        result.worst_layer = index;
      }
      ++layers;
    }
  }
  result.calls /= layers;
  result.score /= layers;
  return result;
}

}  // namespace eep
