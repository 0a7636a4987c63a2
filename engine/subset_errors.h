// Reconstruction errors of kept subsets (NAEE) on one batch of rows, from the outputs of every expert.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/config.h"
#include "engine/expert_statistics.h"

namespace eep {

struct SubsetBatch {
  const std::vector<float>& outputs;  // [rows, experts, hidden] f_j(x)
  const std::vector<float>& logits;   // [rows, experts]
  std::vector<float> router_bias;     // [experts], of sigmoid routers
  int64_t rows = 0;
};

// Adds |Z - Z_S|_F to the error of every subset S of `layer`, and |Z|_F to the norm of each kept count.
void add_subset_errors(const SubsetBatch& batch, const ModelConfig& config, int threads,
                       LayerStatistics& layer);

}  // namespace eep
