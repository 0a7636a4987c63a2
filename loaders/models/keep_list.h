// Keep lists: which experts of each layer stay, in the JSON of other programs. Indices are those of the
// original model. What is read:
//
//   {"0": [1, 3], "1": [0, 2]}                            by layer, under its number or
//   {"model.layers.0.mlp": [1, 3], ...}                   any name that holds layers.N (blk.N, layer_N)
//   [[1, 3], [0, 2]]                                      layers with experts in order, or all layers
//   {"layers": {"model.layers.0.mlp": {"kept": [1, 3]}}}  the list inside known names (keep, retained, ...)
//   {"keep": {"per_layer": [[1, 3], ...]}}, [{"layer": 0, "keep": [1, 3]}, ...]
//   {"pruned": {"0": [0, 2]}}                             what goes (prune, dropped, removed, ...)
//   {"0": [true, false, ...]}                             a mask of all experts: true stays
//
// in one JSON text or in JSON Lines. A list may be a ranking, best first: then a count says how many stay.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/expert_plan.h"

namespace eep {

// Layer -> its experts that stay, ascending. count: how many, 0: as many as are listed. Throws Error(kData)
// at file:line:column for what is none of the shapes above, a layer without experts, an expert that the model
// does not have or that stands twice, a list shorter than `count` (or longer, where its order is no ranking),
// and rankings without a count; naming the layers for missing ones.
using KeepList = std::map<int32_t, std::vector<int32_t>>;
KeepList parse_keep_list(const std::string& text, const std::string& where, const ModelConfig& config,
                         int32_t count = 0);

// Every layer a group of its own.
ExpertPlan keep_list_plan(const KeepList& list, int32_t experts, int32_t top_k);

// {"0": [1, 3], ...}, a layer a line. Throws Error(kUsage) for a plan that merges experts or maps the router
// otherwise.
std::string format_keep_list(const ExpertPlan& plan);

}  // namespace eep
