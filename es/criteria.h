// criteria: one-shot pruning criteria as functions of calibration statistics. A criterion scores every expert
// of a layer; the highest scores stay, ties to the lowest index. Several layers with one selection: each
// layer's scores are divided by their sum, added over the layers, and the top K stay.
//
// X_j: tokens routed to expert j, c_j = |X_j|; g: selected weight; p: softmax over all experts; f_j: its
// output.
//   random                              uniform subset per group
//   frequency                           c_j
//   soft_activation                     sum_{X_j} g_j        ..._selected: sum_{X_j} p_j    ..._all: sum_x
//   p_j ean, wean                           sum_{X_j} |f_j|,     sum_{X_j} g_j |f_j| man, msan sum_{X_j}
//   |f_j| / c_j,   sum_{X_j} |f_j|^2 / c_j reap, reap_probability, reap_l2     sum g_j |f_j| / c_j,  sum p_j
//   |f_j| / c_j,  sum g_j |f_j|^2 / c_j max_activation                      max_{X_j} |f_j|_inf naee argmin
//   over subsets S of sum over batches of |Z - Z_S|_F
// Experts that were never routed to score 0.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/expert_statistics.h"

namespace eep {

enum class CriterionKind : uint8_t {
  kRandom,
  kFrequency,
  kSoftActivation,
  kSoftActivationSelected,
  kSoftActivationAll,
  kEan,
  kWean,
  kMan,
  kMsan,
  kReap,
  kReapProbability,
  kReapL2,
  kMaxActivation,
  kNaee,
};

// Names as above, in that order. Throws Error(kConfig) naming the known ones.
CriterionKind parse_criterion(const std::string& name);
const char* to_string(CriterionKind kind);
std::span<const std::string_view> criterion_names();

// Experts whose largest activation stands out over the whole model always stay, as far as there is room:
// strictly above max(percentile over all experts of all layers, share of the largest), in the first layers.
struct SuperExpertGuard {
  bool enabled = false;
  double percentile = 99.5;
  double share = 0.1;
  double first_layers = 0.75;  // fraction of the sparse layers that the guard looks after
};

struct Criterion {
  CriterionKind kind = CriterionKind::kFrequency;
  uint64_t seed = 0;  // random
  uint32_t draw = 0;  // random: 0..29 for thirty draws
  SuperExpertGuard guard;
};

// One layer's scores, [experts]; not for random and naee.
std::vector<double> criterion_scores(const LayerStatistics& layer, CriterionKind kind);

// The `kept` experts of one group of layers, ascending; `group` is its number (random). Throws Error(kConfig)
// if kept is out of range, Error(kData) if the statistics lack a layer or, for naee, the subset errors.
std::vector<int32_t> select_experts(const ExpertStatistics& statistics, const Criterion& criterion,
                                    int32_t kept, const std::vector<int32_t>& layers, uint32_t group);

// The one-hot plan; groups: lists of sparse layers, as split_layers makes them.
ExpertPlan select_plan(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                       const std::vector<std::vector<int32_t>>& groups, int32_t top_k,
                       RouterSpace router_space);

// C(n, k), INT64_MAX if it is larger.
int64_t binomial(int32_t n, int32_t k);
// All subsets of `kept` of `experts`, ascending, in lexicographic order.
std::vector<std::vector<int32_t>> all_subsets(int32_t experts, int32_t kept);
// `count` different subsets, ascending: first `always` (duplicates dropped), then uniform draws. All of them,
// in lexicographic order, where there are no more than `count`.
std::vector<std::vector<int32_t>> sample_subsets(int32_t experts, int32_t kept, int64_t count, uint64_t seed,
                                                 const std::vector<std::vector<int32_t>>& always = {});

}  // namespace eep
