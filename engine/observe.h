// One pass of the unchanged model, or of a plan, over every row of some prompts, for an observer of its
// mixture layers. first_row: where a pass that was ended goes on, at the root of a tree. chunk_done: called
// with the row at which the next chunk begins; may be empty. under_way: of the first of several stages
// (stages.h), chunks that the last one has not seen; where passes follow each other they are counted there,
// and await_observed() ends the last one.
#pragma once

#include <functional>

#include "engine/layer_pass.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "engine/weights.h"

namespace eep {

void observe_mixtures(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                      MixtureObserver& observer, int64_t first_row = 0,
                      const std::function<void(int64_t)>& chunk_done = {}, const ExpertPlan* plan = nullptr,
                      int* under_way = nullptr);
void await_observed(const Weights& weights, int* under_way);

// Rows of one chunk of such a pass.
int64_t observed_chunk_rows(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                            const MixtureObserver& observer);

}  // namespace eep
