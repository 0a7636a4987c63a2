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
  double norm = 0;                            // sum over the batches of |Z|_F, to compare with; 0: not known
};

// The sums of one pass over an expert's tokens. X_j: tokens routed to expert j; g: selected weight
// (renormalised as the model does); p: softmax over all experts; f_j: output of expert j; y: sum of g_j f_j,
// the block's routed output; h: the residual stream before the block. The first kRoutedSums are those of
// kernels/expert_stats.h, in its order; the others are empty where nothing asked for them.
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
  kChangeNorm,           // sum over X_j of (1 - cos(h, h + y)) g_j |f_j|
  kCredit,               // sum over X_j of |y| g_j |f_j| / sum over the token's experts i of g_i |f_i|
  kOutputSumNorm,        // norm of the sum over X_j of f_j
  kWeightMagnitude,      // sum of |w| over the expert's matrices
  kWeightSquares,        // sum of w^2 over them
};
constexpr size_t kRoutedSums = 10;
// Their names in a score file, in that order.
constexpr std::array<std::string_view, 15> kExpertSumNames{
    "count",        "gate",      "selected_probability", "probability",       "norm",
    "squared_norm", "gate_norm", "probability_norm",     "gate_squared_norm", "max_activation",
    "change_norm",  "credit",    "output_sum_norm",      "weight_magnitude",  "weight_squares"};
constexpr size_t kExpertSums = kExpertSumNames.size();

// What becomes of a sum when texts are put together.
enum class SumRule : uint8_t { kAdds, kLargest, kOfModel, kOfText };
constexpr SumRule sum_rule(ExpertSum sum) {
  if (sum == ExpertSum::kMaxActivation) return SumRule::kLargest;
  if (sum == ExpertSum::kOutputSumNorm) return SumRule::kOfText;  // norms of sums do not add
  const bool weights = sum == ExpertSum::kWeightMagnitude || sum == ExpertSum::kWeightSquares;
  return weights ? SumRule::kOfModel : SumRule::kAdds;
}

// Sums over pairs of experts, [experts, experts], symmetric; empty where nothing asked for them.
enum class ExpertMatrix : uint8_t {
  kInteraction,      // over tokens routed to both: g_i g_j <f_i, f_j>
  kLogitGram,        // over all tokens: z_i z_j, gate logits
  kOutputGram,       // <m_i, m_j>, m the mean of f over the tokens on which every expert was run
  kGatedOutputGram,  // the same with the mean of p f
};
constexpr std::array<std::string_view, 4> kExpertMatrixNames{"interaction", "logit_gram", "output_gram",
                                                             "gated_output_gram"};
constexpr size_t kExpertMatrices = kExpertMatrixNames.size();
constexpr bool matrix_adds(ExpertMatrix matrix) {  // when texts are put together
  return matrix == ExpertMatrix::kInteraction || matrix == ExpertMatrix::kLogitGram;
}

struct LayerStatistics {
  int32_t layer = 0;
  std::array<std::vector<double>, kExpertSums> sums;  // [experts] each
  std::vector<SubsetErrors> subset_errors{};          // one entry per kept count that was asked for
  std::array<std::vector<double>, kExpertMatrices> matrices{};

  std::vector<double>& operator[](ExpertSum sum) { return sums[static_cast<size_t>(sum)]; }
  const std::vector<double>& operator[](ExpertSum sum) const { return sums[static_cast<size_t>(sum)]; }
  std::vector<double>& operator[](ExpertMatrix matrix) { return matrices[static_cast<size_t>(matrix)]; }
  const std::vector<double>& operator[](ExpertMatrix matrix) const {
    return matrices[static_cast<size_t>(matrix)];
  }
};

struct ExpertStatistics {
  int32_t experts = 0;
  int32_t top_k = 0;
  int64_t tokens = 0;
  std::vector<LayerStatistics> layers;  // sparse layers, ascending
};

}  // namespace eep
