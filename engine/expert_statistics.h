// ExpertStatistics: pure data. What one routed pass over calibration text tells about every expert of every
// sparse layer; every one-shot criterion is a function of it.
#pragma once

#include <cstdint>
#include <vector>

namespace eep {

// Reconstruction errors of kept subsets of one layer (NAEE): sum over batches of |Z - Z_S|_F.
struct SubsetErrors {
  int32_t kept = 0;
  bool exhaustive = true;                     // all C(experts, kept) subsets, else sampled
  std::vector<std::vector<int32_t>> subsets;  // ascending experts
  std::vector<double> error;                  // [subsets]
};

// X_j: tokens routed to expert j; g: selected weight (renormalised as the model does); p: softmax over all
// experts; f_j: output of expert j.
struct LayerStatistics {
  int32_t layer = 0;
  std::vector<double> count;                 // [experts] |X_j|
  std::vector<double> gate;                  // [experts] sum over X_j of g_j
  std::vector<double> selected_probability;  // [experts] sum over X_j of p_j
  std::vector<double> probability;           // [experts] sum over all tokens of p_j
  std::vector<double> norm;                  // [experts] sum over X_j of |f_j|
  std::vector<double> squared_norm;          // [experts] sum over X_j of |f_j|^2
  std::vector<double> gate_norm;             // [experts] sum over X_j of g_j |f_j|
  std::vector<double> probability_norm;      // [experts] sum over X_j of p_j |f_j|
  std::vector<double> gate_squared_norm;     // [experts] sum over X_j of g_j |f_j|^2
  std::vector<double> max_activation;        // [experts] max over X_j and components of |f_j|
  std::vector<SubsetErrors> subset_errors;   // one entry per kept count that was asked for
};

struct ExpertStatistics {
  int32_t experts = 0;
  int32_t top_k = 0;
  int64_t tokens = 0;
  std::vector<LayerStatistics> layers;  // sparse layers, ascending
};

}  // namespace eep
