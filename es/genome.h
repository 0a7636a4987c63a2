// genome: what the search varies. Per group of layers the matrices W_RM and W_EM, [kept, experts] (EEP,
// section 3.1). A genome keeps its rows in the order in which they descend from their parents, because
// crossover works row by row; what a genome means does not depend on that order. Hash, plan and evaluation
// use the canonical form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/expert_plan.h"

namespace eep {

struct GroupGenes {
  int32_t kept = 0;
  std::vector<float> w_rm;  // [kept, experts]
  std::vector<float> w_em;  // [kept, experts]

  bool operator==(const GroupGenes&) const = default;
};

struct Genome {
  std::vector<GroupGenes> groups;
  int32_t top_k = 0;  // active experts; 0: the space's

  bool operator==(const Genome&) const = default;
};

// What all genomes of a search share.
struct GenomeSpace {
  int32_t experts = 0;
  std::vector<int32_t> kept;                 // [groups] where counts vary, the even ones
  std::vector<std::vector<int32_t>> layers;  // [groups] sparse layers of each group
  int32_t top_k = 0;
  RouterSpace router_space = RouterSpace::kLogits;
  // Where kept counts are searched too: a genome keeps least..most experts in each group, and at most `total`
  // in all layers together. 0: `kept` holds.
  int64_t total = 0;
  int32_t least = 0;
  int32_t most = 0;
  // Where the active experts are searched too: from so many to top_k. 0: top_k holds.
  int32_t top_k_least = 0;

  int32_t groups() const { return static_cast<int32_t>(kept.size()); }
  bool keeps_all() const;  // every group keeps every expert: there is nothing to prune
  bool counts_vary() const { return total > 0; }
  bool top_k_varies() const { return top_k_least > 0; }
};

// Throws Error(kConfig): no group, a group without layers, kept outside 1..experts, experts outside
// 1..kMaxExperts, top_k < 1, bounds that cross.
void check_space(const GenomeSpace& space);

// Does the genome have as many rows in each group as the space says? If not, what is wrong, as in "expected
// X, got Y".
std::optional<std::string> wrong_counts(const GenomeSpace& space, const Genome& genome);

// Number of one-hot genomes with `kept` experts up to row order, product of C(experts, kept) over the groups;
// INT64_MAX if larger.
int64_t one_hot_count(const GenomeSpace& space);

// W_RM = W_EM = the given experts' rows of the identity, one list a group.
Genome one_hot_genome(const GenomeSpace& space, const std::vector<std::vector<int32_t>>& experts);
// All experts kept; only where space.keeps_all().
Genome identity_genome(const GenomeSpace& space);
// Every row of every group one-hot with the entry 1, no expert twice in a group, and W_RM = W_EM.
bool is_one_hot(const Genome& genome, int32_t experts);

// Index of the largest entry, the lowest if several are equal.
int32_t main_expert(const float* row /* [experts] */, int32_t experts);

// Rows of both matrices together in the order (main expert of W_EM ascending, then W_RM, then W_EM
// lexicographically descending); -0 becomes +0. Equal for genomes that mean the same.
Genome canonical(const Genome& genome, int32_t experts);

// XXH3-128 of the canonical form's little-endian bytes.
struct GenomeHash {
  uint64_t high = 0;
  uint64_t low = 0;

  bool operator==(const GenomeHash&) const = default;
  auto operator<=>(const GenomeHash&) const = default;
};
GenomeHash canonical_hash(const Genome& genome, int32_t experts);
std::string to_string(const GenomeHash& hash);  // "xxh3:" and 32 hexadecimal digits

// The plan of the canonical form.
ExpertPlan to_plan(const GenomeSpace& space, const Genome& genome);
// The canonical genome of a plan, whose groups may be finer than the space's where all parts of a group
// agree. Throws Error(kConfig) naming `where` if the plan does not fit the space.
Genome from_plan(const GenomeSpace& space, const ExpertPlan& plan, const char* where);

// Exact bytes (row order and every bit kept), short for one-hot and sparse rows; appended to `out`. Counts
// are there where the space lets them vary.
void write_genome(const GenomeSpace& space, const Genome& genome, std::string& out);
// Reads one genome from the front of `bytes` and removes it. Throws Error(kData) naming `where`.
Genome read_genome(const GenomeSpace& space, std::string_view& bytes, const char* where);

}  // namespace eep
