// ExpertStatistics: pure data. What one routed pass over calibration text tells about every expert of every
// sparse layer; every one-shot criterion is a function of it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace eep {

// Reconstruction errors of kept subsets of one layer (NAEE): sum over batches of |Z - Z_S|_F.
struct SubsetErrors {
  int32_t kept = 0;
  bool exhaustive = true;                     // all C(experts, kept) subsets, else sampled
  std::vector<std::vector<int32_t>> subsets;  // ascending experts
  std::vector<double> error;                  // [subsets]
};

// The sums of one pass over an expert's tokens, in the order of kernels/expert_stats.h. X_j: tokens routed to
// expert j; g: selected weight (renormalised as the model does); p: softmax over all experts; f_j: output of
// expert j.
enum class ExpertSum : uint8_t {
  kCount,                // |X_j|
  kGate,                 // sum over X_j of g_j
  kSelectedProbability,  // sum over X_j of p_j
  kProbability,          // sum over all tokens of p_j
  kNorm,                 // sum over X_j of |f_j|
  kSquaredNorm,          // sum over X_j of |f_j|^2
  kGateNorm,             // sum over X_j of g_j |f_j|
  kProbabilityNorm,      // sum over X_j of p_j |f_j|
  kGateSquaredNorm,      // sum over X_j of g_j |f_j|^2
  kMaxActivation,        // max over X_j and components of |f_j|
};
// Their names in a score file, in that order.
constexpr std::array<std::string_view, 10> kExpertSumNames{
    "count",        "gate",      "selected_probability", "probability",       "norm",
    "squared_norm", "gate_norm", "probability_norm",     "gate_squared_norm", "max_activation"};
constexpr size_t kExpertSums = kExpertSumNames.size();

struct LayerStatistics {
  int32_t layer = 0;
  std::array<std::vector<double>, kExpertSums> sums;  // [experts] each
  std::vector<SubsetErrors> subset_errors{};          // one entry per kept count that was asked for

  std::vector<double>& operator[](ExpertSum sum) { return sums[static_cast<size_t>(sum)]; }
  const std::vector<double>& operator[](ExpertSum sum) const { return sums[static_cast<size_t>(sum)]; }
};

struct ExpertStatistics {
  int32_t experts = 0;
  int32_t top_k = 0;
  int64_t tokens = 0;
  std::vector<LayerStatistics> layers;  // sparse layers, ascending
};

}  // namespace eep
