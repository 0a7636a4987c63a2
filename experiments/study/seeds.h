// What the runs of a sweep say together: means over seeds with intervals, paired tests corrected for their
// number, and the compact table.
#pragma once

#include <span>
#include <string>

#include "experiments/study/methods.h"

namespace eep {

// One object a (task, run, experts, method), in order of appearance: `seeds`, `mean` test score, Student's
// `ci95` over seeds, mean `train` and `dev`, `evaluations`, `seconds`. Of searched plans also `p_vs_full` and
// `p_vs_prune` (one seed: the run's own; several: sign flips of the items' scores averaged over seeds, read
// from the runs' samples/) and, with Holm's correction over all of each kind, `holm_vs_full`,
// `holm_vs_prune`.
Json seeds_summary(std::span<const RunRow> runs);
std::string seeds_table(const Json& summary);
// A row a (task, run, budget): full, the best one-shot method by name, the pruned plan, controls, the merged
// plan, its tests, the seconds of the search. `algorithm` names the merged column.
// full_models: the table of the full models follows, so the first column is called "unpruned".
std::string compact_table(const Json& summary, const std::string& algorithm, bool full_models = false);

}  // namespace eep
