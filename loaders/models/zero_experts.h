// Experts and gate rows that are zero throughout, as programs leave them that prune by zeroing: shapes stay,
// and a zero gate row's logit 0 beats every negative one, so such an expert is still chosen and adds nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/expert_statistics.h"
#include "engine/raw_model.h"

namespace eep {

struct ZeroExperts {
  int32_t layer = 0;
  std::vector<int32_t> experts;    // that put out zero whatever comes in: down, or gate, or up is all zeros
  std::vector<int32_t> gate_rows;  // that are all zeros
};

// Layers that have some, ascending. Of a weight that is not zero only the beginning is read.
std::vector<ZeroExperts> zero_experts(const RawModel& model);

// "layer 1: experts 3, 5 are zero; gate rows 3 are zero", with the tokens that chose them where there are
// statistics.
std::string zero_experts_line(const ZeroExperts& zero, const LayerStatistics* statistics = nullptr);

}  // namespace eep
