// LayerVariants: the distinct settings of each layer among the candidates of a population. Candidates that
// agree on a layer share its variant; candidates that agree on every layer so far share their residual
// stream, so what they have in common is computed once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/config.h"
#include "engine/expert_plan.h"

namespace eep {

struct LayerVariant {
  RouterMap map;  // points into kept_experts, router_mapping or the plan's W_RM
  // [kept, experts] W_RM rounded to the gate's dtype (Parity::kEep, probabilities)
  std::vector<float> router_mapping;
  std::vector<int32_t> kept_experts;  // [kept] when W_RM is one-hot
  std::vector<int32_t> base_expert;   // [kept] base expert of a one-hot row of W_EM, -1: the row is merged
  std::vector<int32_t> merged_id;     // [kept] of merged rows: equal in a layer iff the rows are; else -1
  const float* merging = nullptr;     // [kept, experts] W_EM of the plan

  int32_t merged_rows() const {
    int32_t count = 0;
    for (int32_t expert : base_expert) count += expert < 0;
    return count;
  }
};

class LayerVariants {
 public:
  // The plans must outlive this object.
  LayerVariants(const ModelConfig& config, std::span<const ExpertPlan> plans);

  int32_t index(int64_t layer, size_t candidate) const {
    return index_[static_cast<size_t>(layer)][candidate];
  }
  const LayerVariant& at(int64_t layer, int32_t index) const {
    return variants_[static_cast<size_t>(layer)][static_cast<size_t>(index)];
  }
  int32_t slots() const { return slots_; }                        // largest top_k
  int32_t most_merged_rows() const { return most_merged_rows_; }  // of one variant

 private:
  std::vector<std::vector<LayerVariant>> variants_;  // [layer][variant], empty for dense layers
  std::vector<std::vector<int32_t>> index_;          // [layer][candidate]
  int32_t slots_ = 1;
  int32_t most_merged_rows_ = 0;
};

}  // namespace eep
