// kept_sets: which experts each layer group keeps, as ascending lists, and the moves that searches over them
// share. Everything drawn has an address (es/random.h).
#pragma once

#include <cstdint>
#include <vector>

#include "es/genome.h"
#include "es/operators.h"

namespace eep {

using KeptSets = std::vector<std::vector<int32_t>>;  // [groups], ascending

// Of a one-hot genome.
KeptSets kept_sets(const Genome& genome, int32_t experts);

// One drawn expert of the group leaves and one drawn from the others enters; nothing where it keeps all.
// `column`: 0 or 2, two numbers of the address (kSwap, group).
void swap_expert(KeptSets* sets, int32_t group, int32_t experts, const Child& child, uint32_t column = 0);

// As many experts as `first` has, group by group: those that both have, then drawn ones of those that one
// has.
KeptSets cross_sets(const KeptSets& first, const KeptSets& second, const Child& child);

// ---- kept counts that vary under a total (GenomeSpace::counts_vary)

// Counts of groups with so many layers each: as even as the total allows, the first ones higher; their sum
// over layers at most `total`, and no group could take one more. Throws Error(kConfig) if `least` of every
// layer is more than the total.
std::vector<int32_t> even_counts(const std::vector<std::vector<int32_t>>& layers, int64_t total,
                                 int32_t least, int32_t most);
// Sum over layers.
int64_t kept_total(const GenomeSpace& space, const KeptSets& sets);

// EvoPress's level switch (Sieberling et al. 2024): a drawn expert leaves a drawn group, and another group
// takes one, as long as the total holds; `number` tells the switches of a child apart. Nothing where no pair
// of groups can. What is left of the total afterwards goes to drawn groups where `fill` says so.
void switch_level(const GenomeSpace& space, KeptSets* sets, const Child& child, uint32_t number,
                  bool fill = true);

// A drawn group loses a drawn expert, or takes one as far as the total and the bounds hold, whichever is
// drawn of those that can be done; for searches of smaller plans.
void resize_level(const GenomeSpace& space, KeptSets* sets, const Child& child, uint32_t number);
// Drawn groups lose drawn experts, `count` in all or as many as the bounds let go.
void shrink_levels(const GenomeSpace& space, KeptSets* sets, int64_t count, const Child& child);

// ---- active experts that vary (GenomeSpace::top_k_varies)

// One more or one less, as a genome holds it: 0 for the space's own.
int32_t next_top_k(const GenomeSpace& space, int32_t top_k, const Child& child, uint32_t number);

}  // namespace eep
