#include "loaders/models/dead_experts.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "engine/coded_matrix.h"
#include "loaders/models/zero_experts.h"

namespace eep {
namespace {

const PlanGroup* group_of(const ExpertPlan& plan, int32_t layer) {
  const auto group = std::find_if(plan.groups.begin(), plan.groups.end(), [&](const PlanGroup& each) {
    return std::find(each.layers.begin(), each.layers.end(), layer) != each.layers.end();
  });
  return group == plan.groups.end() ? nullptr : &*group;
}

// Rows that take nothing but zero experts.
std::vector<int32_t> dead_rows(const PlanGroup& group, const std::vector<int32_t>& zeros) {
  std::vector<int32_t> dead;
  for (int32_t row = 0; row < group.kept; ++row) {
    bool lives = false;
    for (int32_t expert = 0; expert < group.experts; ++expert) {
      const size_t at =
          static_cast<size_t>(row) * static_cast<size_t>(group.experts) + static_cast<size_t>(expert);
      const bool zero = std::find(zeros.begin(), zeros.end(), expert) != zeros.end();
      lives |= !zero && group.expert_merging[at] != 0.0f;
    }
    if (!lives) dead.push_back(row);
  }
  return dead;
}

// The stored bytes of an expert's gate row, and of its bias.
std::string gate_bytes(const RawLayer& layer, int32_t expert) {
  const StoredMatrix stored = stored_values(layer.router);
  std::string bytes;
  for (int64_t column = 0; column < stored.k; ++column) {
    const int64_t offset = expert * stored.row_stride + column * stored.column_stride;
    bytes.append(reinterpret_cast<const char*>(stored.data) + static_cast<size_t>(offset) * stored.element,
                 stored.element);
  }
  if (!layer.router_bias) return bytes;
  const size_t element = dtype_size(layer.router_bias.dtype);
  return bytes.append(layer.router_bias.as<char>() + static_cast<size_t>(expert) * element, element);
}

std::string equal_gate_rows(const RawLayer& layer, const std::vector<int32_t>& kept) {
  std::map<std::string, int32_t> known;
  std::string pairs;
  for (const int32_t expert : kept) {
    const auto [first, fresh] = known.try_emplace(gate_bytes(layer, expert), expert);
    if (!fresh && first->second != expert)
      pairs += fmt::format("{}{} and {}", pairs.empty() ? "" : ", ", first->second, expert);
  }
  return pairs;
}

}  // namespace

std::vector<std::string> dead_in_source(const RawModel& model, const ExpertPlan& plan) {
  std::vector<std::string> lines;
  for (const ZeroExperts& zero : zero_experts(model)) {
    const PlanGroup* group = group_of(plan, zero.layer);
    const std::vector<int32_t> dead =
        group == nullptr ? std::vector<int32_t>{} : dead_rows(*group, zero.experts);
    if (!dead.empty()) {
      lines.push_back(
          fmt::format("layer {}: kept experts {} put out zero whatever comes in (of the source's {} do)",
                      zero.layer, fmt::join(dead, ", "), fmt::join(zero.experts, ", ")));
    }
  }
  for (size_t index = 0; index < model.layers.size(); ++index) {
    const RawLayer& layer = model.layers[index];
    const PlanGroup* group = group_of(plan, static_cast<int32_t>(index));
    if (group == nullptr || !layer.router || layer.router.coded() || plan.top_k >= group->kept) continue;
    const std::string pairs =
        equal_gate_rows(layer, one_hot_rows(group->router_mapping, group->kept, group->experts));
    if (!pairs.empty()) {
      lines.push_back(
          fmt::format("layer {}: gate rows {} are equal in the source: these experts tie, and the router "
                      "takes one of them at every token",
                      index, pairs));
    }
  }
  return lines;
}

}  // namespace eep
