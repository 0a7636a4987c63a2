// Rows of the table of criteria that look at pairs of experts: what is removed together, and what is merged.
// A merged expert is a weighted mean, so it is a row of W_EM; a group must be one layer.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/expert_statistics.h"

namespace eep {

struct Criterion;

// Throws Error(kData) unless a layer's statistics have what the criterion needs: got = expected numbers.
void require_statistics(std::string_view criterion, int32_t layer, size_t got, size_t expected);

// HOPE (as this project defines it): the removed set P of least sum over P x P of the interactions, which is
// the squared norm of what the tokens lose if nothing else answers for it. Exact where there are few sets,
// else the best of greedy removals, one beginning with each expert, after exchanges of two experts.
std::vector<int32_t> select_by_pairs(const ExpertStatistics& statistics, const Criterion& criterion,
                                     int32_t kept, const std::vector<int32_t>& layers, uint32_t group);

// M-SMoE: the most used experts stay; each other one joins the one of largest cosine of gate logits.
PlanGroup merge_by_logits(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                          const std::vector<int32_t>& layers);
// HC-SMoE: clusters of mean outputs, Euclidean distance, average linkage.
PlanGroup merge_by_outputs(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                           const std::vector<int32_t>& layers);
// REAM: in order of saliency each centroid takes its most similar experts until none is left.
PlanGroup merge_by_saliency(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                            const std::vector<int32_t>& layers);

}  // namespace eep
