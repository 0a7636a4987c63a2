// The published coefficient files of EEP (data of reference: Mixtral-8x7B-Instruct) as plans: keys layers.N,
// layers.[a-b] and others hold W_EM, transfer.* and others_transfer W_RM, each [kept, experts].
#pragma once

#include <cstdint>
#include <string>

#include "engine/expert_plan.h"
#include "loaders/formats/pickle.h"

namespace eep {

// A layer's matrices are the first that name it, else the "others". Layers with the same pair share a group.
// Throws Error(kData) naming the key if a matrix is missing, has another shape than its twin or than the
// other layers' experts, or holds a value that is not finite.
ExpertPlan coefficients_plan(const PthFile& file, int32_t layers, int32_t top_k, const std::string& where);

}  // namespace eep
