// blend: statistics of several texts of one model as one. Sums add exactly, so a text of weight w counts as
// if it had been read w times. And how much of each text a plan covers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "es/criteria.h"
#include "es/statistics_io.h"

namespace eep {

// The statistics of one text, of one domain.
struct Domain {
  std::string name;  // the file's, for messages
  StatisticsFile file;
  double weight = 1;
};

// Throws Error(kData) naming two files that are not of one model: another hash, other layers or counts.
void check_same_model(std::span<const Domain> domains);

// Every sum is that of the texts together, weighted; largest activations are the largest. What does not add
// up (a norm of a sum) is left out, and subset errors are those of the subsets that every text measured.
ExpertStatistics blended(std::span<const Domain> domains);

// Weights that make a domain's share independent of the length of its text: weight / tokens, in units of all
// tokens.
void balance(std::vector<Domain>& domains);

struct Coverage {
  double calls = 0;          // share of the calls of experts that go to kept ones, mean over the layers
  double score = 0;          // the same of the criterion's score; 0 where it scores no experts
  int32_t worst_layer = -1;  // of least calls
  double worst_calls = 0;
};

// What the experts that `plan` keeps (rows of W_EM that are one-hot, or the members of merged ones) cover.
Coverage coverage(const ExpertStatistics& statistics, const CriterionRow& criterion, const ExpertPlan& plan);

// The kept experts of each group that make the least covered domain's score as large as can be found:
// multiplicative weights over the domains, then exchanges of single experts. The score of a group is the
// criterion's, divided by its sum. Throws Error(kUsage) for a criterion without scores, Error(kConfig) for an
// impossible count. `weights` gets what each domain weighed in the end, sum 1.
ExpertPlan maxmin_plan(std::span<const Domain> domains, const Criterion& criterion, int32_t kept,
                       const std::vector<std::vector<int32_t>>& groups, int32_t top_k,
                       RouterSpace router_space, std::vector<double>* weights);

}  // namespace eep
