// DecodePlan: the memory of greedy decoding: what a step works with, and what keys and values of lanes may
// take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/layer_variants.h"
#include "engine/memory_plan.h"
#include "engine/weights.h"

namespace eep {

// Tokens of a sequence: of its prompt, and of that and all that it may grow to.
struct LaneSize {
  size_t prompt = 0, capacity = 0;
};

struct DecodePlan {
  MemoryPlan memory;
  size_t row_cache = 0;    // bytes of one position, at the stage (stages.h) with the most layers
  size_t cache_bytes = 0;  // for keys and values of the lanes that run together
};

// The largest lane alone must fit beside one block. Beyond that rows of a step, which take the prompts in,
// and merged experts of all layers, then of one, may have half of what is left, or all that the lanes' caches
// do not need. Throws Error(kRuntime) as plan_memory does.
DecodePlan plan_decoding(const Weights& weights, size_t budget, const LayerVariants& variants,
                         int32_t candidates, std::span<const LaneSize> lanes);

}  // namespace eep
