// redundancy: what can be foretold of pruning before a search, from calibration statistics. How much of a
// model's experts is redundant decides more than how large it is: two models of 64 experts may keep 93 % and
// 20 % of a score at half of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/expert_statistics.h"

namespace eep {

// Of one kept count: how far the blocks' outputs move where each layer keeps its best measured subset, as
// naee does: sum over batches of |Z - Z_S|_F over that of |Z|_F. 0: nothing is lost; 1: as much as is there.
struct RedundancyPoint {
  int32_t kept = 0;
  bool exhaustive = true;  // all subsets were tried, in every layer
  double mean = 0, worst = 0;
  int32_t worst_layer = 0;
};

// Kept counts that every layer was measured at, ascending; none in files without |Z|.
std::vector<RedundancyPoint> redundancy_curve(const ExpertStatistics& statistics);

// exp of the entropy of the shares of routed tokens: as many experts as carry the calls if they carried equal
// ones. The mean over layers; 0 without tokens.
double effective_experts(const ExpertStatistics& statistics);

// Lines for people: the curve as a table, with the effective number of experts; "" where nothing is known.
std::string redundancy_table(const ExpertStatistics& statistics);
// One line of the count; "" where it was not measured.
std::string redundancy_line(const ExpertStatistics& statistics, int32_t kept);

}  // namespace eep
