// Plans as data: construction and checking.
#include "engine/expert_plan.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {

std::vector<int32_t> one_hot_rows(const std::vector<float>& matrix, int32_t kept, int32_t experts) {
  std::vector<int32_t> rows;
  for (int32_t row = 0; row < kept; ++row) {
    int32_t hot = -1;
    for (int32_t expert = 0; expert < experts; ++expert) {
      const float value =
          matrix[static_cast<size_t>(row) * static_cast<size_t>(experts) + static_cast<size_t>(expert)];
      if (value == 0.0f) continue;
      if (value != 1.0f || hot >= 0) return {};
      hot = expert;
    }
    if (hot < 0) return {};
    rows.push_back(hot);
  }
  return rows;
}

bool skips_experts(const ExpertPlan& plan) {
  return std::any_of(plan.groups.begin(), plan.groups.end(),
                     [](const PlanGroup& group) { return !group.skip_below.empty(); });
}

PlanGroup one_hot_group(std::vector<int32_t> layers, const std::vector<int32_t>& kept_experts,
                        int32_t experts) {
  PlanGroup group;
  group.layers = std::move(layers);
  group.kept = static_cast<int32_t>(kept_experts.size());
  group.experts = experts;
  group.router_mapping.assign(kept_experts.size() * static_cast<size_t>(experts), 0.0f);
  for (size_t row = 0; row < kept_experts.size(); ++row) {
    group.router_mapping[row * static_cast<size_t>(experts) + static_cast<size_t>(kept_experts[row])] = 1.0f;
  }
  group.expert_merging = group.router_mapping;
  return group;
}

std::vector<std::vector<int32_t>> split_layers(const std::vector<uint8_t>& sparse, int32_t groups) {
  std::vector<int32_t> layers;
  for (size_t layer = 0; layer < sparse.size(); ++layer) {
    if (sparse[layer] != 0) layers.push_back(static_cast<int32_t>(layer));
  }
  const int32_t total = static_cast<int32_t>(layers.size());
  if (groups < 1 || groups > total) {
    throw Error(ExitCode::kConfig, "plan.groups",
                "impossible number of layer groups" + expected_got("1.." + std::to_string(total), groups));
  }
  const int32_t size = total / groups;
  std::vector<std::vector<int32_t>> split(static_cast<size_t>(groups));
  for (int32_t i = 0; i < total; ++i) {
    split[static_cast<size_t>(std::min(i / size, groups - 1))].push_back(layers[static_cast<size_t>(i)]);
  }
  return split;
}

ExpertPlan identity_plan(const std::vector<uint8_t>& sparse, int32_t experts, int32_t top_k) {
  std::vector<int32_t> all(static_cast<size_t>(experts));
  for (int32_t expert = 0; expert < experts; ++expert) all[static_cast<size_t>(expert)] = expert;
  ExpertPlan plan;
  plan.top_k = top_k;
  std::vector<int32_t> layers;
  for (size_t layer = 0; layer < sparse.size(); ++layer) {
    if (sparse[layer] != 0) layers.push_back(static_cast<int32_t>(layer));
  }
  if (!layers.empty()) plan.groups.push_back(one_hot_group(std::move(layers), all, experts));
  // Over all experts with the identity map both spaces are the model's own router; this one needs no map at
  // all.
  plan.router_space = RouterSpace::kProbabilities;
  return plan;
}

namespace {

template <typename Refuse>
void check_skip_below(const PlanGroup& group, const std::string& name, const Refuse& refuse) {
  if (group.skip_below.empty()) return;
  if (group.skip_below.size() != group.layers.size()) {
    refuse(name + ".skip_below: wrong number of entries" +
           expected_got(group.layers.size(), group.skip_below.size()));
  }
  for (const float value : group.skip_below) {
    if (!(value >= 0 && value <= 1))
      refuse(name + ".skip_below: out of range" + expected_got("0..1", std::to_string(value)));
  }
}

}  // namespace

void check_plan(const ExpertPlan& plan, const std::vector<uint8_t>& sparse, int32_t experts,
                const char* where) {
  const auto refuse = [&](const std::string& what) { throw Error(ExitCode::kData, where, what); };
  if (plan.top_k < 1 || plan.top_k > kMaxTopK) {
    refuse("top_k out of range" + expected_got("1.." + std::to_string(kMaxTopK), plan.top_k));
  }
  std::vector<int32_t> owner(sparse.size(), -1);
  for (size_t index = 0; index < plan.groups.size(); ++index) {
    const PlanGroup& group = plan.groups[index];
    const std::string name = "groups[" + std::to_string(index) + "]";
    if (group.experts != experts) {
      refuse(name + ": wrong number of original experts" + expected_got(experts, group.experts));
    }
    if (group.kept < 1 || group.kept > experts) {
      refuse(name + ": kept experts out of range" +
             expected_got("1.." + std::to_string(experts), group.kept));
    }
    const size_t size = static_cast<size_t>(group.kept) * static_cast<size_t>(experts);
    for (const auto* matrix : {&group.router_mapping, &group.expert_merging}) {
      const std::string label =
          name + (matrix == &group.router_mapping ? ".router_mapping" : ".expert_merging");
      if (matrix->size() != size) {
        refuse(label + ": wrong number of entries" + expected_got(size, matrix->size()));
      }
      for (float value : *matrix) {
        if (!std::isfinite(value)) refuse(label + ": an entry is not finite");
      }
    }
    check_skip_below(group, name, refuse);
    for (int32_t layer : group.layers) {
      if (layer < 0 || static_cast<size_t>(layer) >= sparse.size()) {
        refuse(name + ".layers: no such layer" +
               expected_got("0.." + std::to_string(sparse.size() - 1), layer));
      }
      if (sparse[static_cast<size_t>(layer)] == 0) {
        refuse(name + ".layers: layer " + std::to_string(layer) + " has no experts");
      }
      if (owner[static_cast<size_t>(layer)] >= 0) {
        refuse(name + ".layers: layer " + std::to_string(layer) + " is already in groups[" +
               std::to_string(owner[static_cast<size_t>(layer)]) + "]");
      }
      owner[static_cast<size_t>(layer)] = static_cast<int32_t>(index);
    }
  }
  for (size_t layer = 0; layer < sparse.size(); ++layer) {
    if (sparse[layer] != 0 && owner[layer] < 0) refuse("layer " + std::to_string(layer) + " is in no group");
  }
}

}  // namespace eep
