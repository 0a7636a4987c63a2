// The table that expert_stats fills for a block of rows on the CPU before one thread adds it up.
#pragma once

#include "kernels/router.h"

namespace eep {

inline constexpr int64_t kStatsRows = 32;

struct StatsBlock {
  float probability[kStatsRows * kMaxExperts];  // [rows, experts] softmax of the logits
  float squared_norm[kStatsRows * kMaxTopK];    // [rows, slots] |f|^2
  float largest[kStatsRows * kMaxTopK];         // [rows, slots] max |f|
};

}  // namespace eep
