// One pass of the unchanged model over every row of some prompts, for an observer of its mixture layers.
#pragma once

#include "engine/layer_pass.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "engine/weights.h"

namespace eep {

void observe_mixtures(const Weights& weights, const Ops& ops, const Device& device, size_t memory_budget,
                      const Prompts& prompts, MixtureObserver& observer);

}  // namespace eep
