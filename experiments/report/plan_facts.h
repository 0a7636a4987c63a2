// What a plan does to the experts of each layer, for maps and tables.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/expert_statistics.h"

namespace eep {

// A coefficient of W_EM or W_RM beside the largest of its row.
struct Donation {
  int32_t from = 0;  // expert, the donor
  int32_t to = 0;    // expert, the row's largest
  int32_t row = 0;
  float coefficient = 0;
};

struct LayerFacts {
  int32_t layer = 0;
  size_t group = 0;
  int32_t experts = 0, kept = 0;
  std::vector<int32_t> receivers;   // [kept] the expert with the largest |W_EM| of each row
  std::vector<Donation> donations;  // of W_EM, largest first
};

// Layers ascending.
std::vector<LayerFacts> layer_facts(const ExpertPlan& plan);

// Mean over the layers of |A and B| / |A or B| of the kept experts; nothing where layers or experts differ.
struct Agreement {
  bool comparable = false;
  double jaccard = 0;
};
Agreement keep_list_agreement(const std::vector<LayerFacts>& a, const std::vector<LayerFacts>& b);

struct Coverage {
  double kept_share = 0;  // of routed calls that went to experts that stay
  double effective = 0;   // exp of the entropy of the routed calls: as many equally used experts
  int32_t never = 0;      // experts that no token was routed to
};
Coverage coverage_of(const LayerFacts& facts, const LayerStatistics& statistics);

// Mean of g |f| over the tokens of each expert (REAP); 0 where there were none.
std::vector<double> saliency_of(const LayerStatistics& statistics);

}  // namespace eep
