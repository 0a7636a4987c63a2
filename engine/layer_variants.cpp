#include "engine/layer_variants.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/float16.h"

namespace eep {
namespace {

struct Setting {
  const PlanGroup* group;
  int32_t top_k;
  RouterSpace space;
  float skip_below;

  bool operator==(const Setting& other) const {
    return top_k == other.top_k && space == other.space && skip_below == other.skip_below &&
           group->kept == other.group->kept && group->router_mapping == other.group->router_mapping &&
           group->expert_merging == other.group->expert_merging;
  }
};

// A sigmoid router's groups are runs of the kept rows.
void check_groups(const ModelConfig& config, const Setting& setting) {
  const int64_t kept = setting.group->kept, groups = config.router_groups;
  if (kept % groups == 0 && kept / groups * config.router_top_groups >= setting.top_k) return;
  throw Error(
      ExitCode::kData, "plan",
      "the router takes experts from " + std::to_string(config.router_top_groups) + " of " +
          std::to_string(groups) + " groups" +
          expected_got(
              "a multiple of that many kept, enough for " + std::to_string(setting.top_k) + " active", kept));
}

LayerVariant make_variant(const Setting& setting) {
  const PlanGroup& group = *setting.group;
  LayerVariant variant;
  variant.kept_experts = one_hot_rows(group.router_mapping, group.kept, group.experts);
  variant.map.kept = group.kept;
  variant.map.top_k = setting.top_k;
  variant.map.space = setting.space;
  variant.map.skip_below = setting.skip_below;
  variant.merging = group.expert_merging.data();
  for (int32_t row = 0; row < group.kept; ++row) {
    const auto begin = group.expert_merging.begin() + static_cast<int64_t>(row) * group.experts;
    const auto hot = one_hot_rows({begin, begin + group.experts}, 1, group.experts);
    variant.base_expert.push_back(hot.empty() ? -1 : hot[0]);
  }
  return variant;
}

// Rows of W_EM are told apart by their bytes here, once for a population; the passes compare numbers.
void number_merged_rows(std::vector<LayerVariant>& variants, int32_t experts) {
  std::unordered_map<std::string, int32_t> id_of;
  for (LayerVariant& variant : variants) {
    for (int32_t row = 0; row < variant.map.kept; ++row) {
      if (variant.base_expert[static_cast<size_t>(row)] >= 0) {
        variant.merged_id.push_back(-1);
        continue;
      }
      const std::string key(reinterpret_cast<const char*>(variant.merging + int64_t{row} * experts),
                            static_cast<size_t>(experts) * sizeof(float));
      variant.merged_id.push_back(id_of.try_emplace(key, static_cast<int32_t>(id_of.size())).first->second);
    }
  }
}

float rounded_to(float value, DType dtype) {
  if (dtype == DType::kBF16) return bf16_to_f32(f32_to_bf16(value));
  if (dtype == DType::kF16) return f16_to_f32(f32_to_f16(value));
  return value;
}

}  // namespace

LayerVariants::LayerVariants(const ModelConfig& config, std::span<const ExpertPlan> plans)
    : variants_(config.sparse.size()), index_(config.sparse.size()) {
  for (size_t layer = 0; layer < config.sparse.size(); ++layer) {
    if (config.sparse[layer] == 0) continue;
    std::vector<Setting> settings;
    for (const ExpertPlan& plan : plans) {
      const PlanGroup* owner = nullptr;
      float skip_below = 0;
      for (const PlanGroup& group : plan.groups) {
        const auto at = std::find(group.layers.begin(), group.layers.end(), static_cast<int32_t>(layer));
        if (at == group.layers.end()) continue;
        owner = &group;
        skip_below = skip_below_of(group, static_cast<size_t>(at - group.layers.begin()));
      }
      const Setting setting{owner, std::min(plan.top_k, owner->kept), plan.router_space, skip_below};
      const auto found = std::find(settings.begin(), settings.end(), setting);
      index_[layer].push_back(static_cast<int32_t>(found - settings.begin()));
      if (found == settings.end()) settings.push_back(setting);
    }
    for (const Setting& setting : settings) {
      check_groups(config, setting);
      LayerVariant variant = make_variant(setting);
      slots_ = std::max(slots_, variant.map.top_k);
      most_merged_rows_ = std::max(most_merged_rows_, variant.merged_rows());
      variants_[layer].push_back(std::move(variant));
    }
    number_merged_rows(variants_[layer], static_cast<int32_t>(config.num_experts));
    // Only now: the vectors no longer move.
    for (size_t i = 0; i < settings.size(); ++i) {
      LayerVariant& variant = variants_[layer][i];
      if (variant.kept_experts.empty()) {
        variant.map.matrix = settings[i].group->router_mapping.data();
        // a map of probabilities, as in the released code; gates are folded from W_RM as it is
        if (config.parity == Parity::kEep && settings[i].space == RouterSpace::kProbabilities) {
          variant.router_mapping = settings[i].group->router_mapping;
          for (float& value : variant.router_mapping) value = rounded_to(value, config.dtype);
          variant.map.matrix = variant.router_mapping.data();
        }
      } else {
        variant.map.kept_experts = variant.kept_experts.data();
      }
    }
  }
}

}  // namespace eep
