// allocation: how many experts each layer keeps under one budget for the model. The table is that of
// allocations().
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/expert_statistics.h"
#include "es/criteria.h"

namespace eep {

struct AllocationRow {
  std::string_view name;
  std::string_view words;
  // [layers]: of each layer of the statistics at least `least`; together layers x kept.
  std::vector<int32_t> (*counts)(const ExpertStatistics& statistics, const CriterionRow& criterion,
                                 int32_t kept, int32_t least);
};

std::span<const AllocationRow> allocations();

// kept: the mean of the layers. Throws Error(kConfig) where a rule needs scores that the criterion has not,
// or least exceeds kept; Error(kData) where the statistics lack what the rule reads.
std::vector<int32_t> allocate(const AllocationRow& rule, const ExpertStatistics& statistics,
                              const CriterionRow& criterion, int32_t kept, int32_t least);

}  // namespace eep
