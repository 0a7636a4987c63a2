// ExpertPlan: pure data. Which experts a candidate keeps, how removed ones are merged into them, and how the
// router is mapped (EEP, section 3.1): per group of layers the matrices W_RM and W_EM, [kept, experts]. A
// candidate is a plan; a single model is the identity plan.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/router.h"

namespace eep {

struct PlanGroup {
  std::vector<int32_t> layers;  // model layers, all of them sparse
  int32_t kept = 0;
  int32_t experts = 0;
  std::vector<float> router_mapping;  // [kept, experts] W_RM
  std::vector<float> expert_merging;  // [kept, experts] W_EM
  // [layers] thresholds in [0, 1] below which experts are left out token by token (RouterMap::skip_below), or
  // empty: none are.
  std::vector<float> skip_below{};

  bool operator==(const PlanGroup&) const = default;
};

struct ExpertPlan {
  std::vector<PlanGroup> groups;  // every sparse layer belongs to exactly one
  int32_t top_k = 0;              // above a group's kept count: all of them
  RouterSpace router_space = RouterSpace::kLogits;

  bool operator==(const ExpertPlan&) const = default;
};

// The expert of each row if every row is one-hot with the entry 1, else empty.
std::vector<int32_t> one_hot_rows(const std::vector<float>& matrix, int32_t kept, int32_t experts);

// The threshold of the n-th of its layers; 0: nothing is left out.
inline float skip_below_of(const PlanGroup& group, size_t n) {
  return group.skip_below.empty() ? 0.0f : group.skip_below[n];
}

// Whether any layer leaves out experts token by token.
bool skips_experts(const ExpertPlan& plan);

// One group of the given sparse layers, W_RM = W_EM = rows `kept_experts` of the identity.
PlanGroup one_hot_group(std::vector<int32_t> layers, const std::vector<int32_t>& kept_experts,
                        int32_t experts);

// Splits the sparse layers uniformly by depth into `groups`: size floor(L / G), the last group takes the
// rest.
std::vector<std::vector<int32_t>> split_layers(const std::vector<uint8_t>& sparse, int32_t groups);

// All experts kept.
ExpertPlan identity_plan(const std::vector<uint8_t>& sparse, int32_t experts, int32_t top_k);

// Throws Error(kData) naming `where` if a layer is missing, twice or not sparse, a matrix is ragged or not
// finite, a count or threshold is out of range.
void check_plan(const ExpertPlan& plan, const std::vector<uint8_t>& sparse, int32_t experts,
                const char* where);

}  // namespace eep
