// What several commands read: lists of token ids, plans checked against a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "experiments/model_context.h"

namespace eep {

// "1 2 3" or "[1, 2, 3]". Throws Error(kUsage).
std::vector<int32_t> parse_ids(const std::string& text);
// A JSON list of lists of ids. Throws Error(kData), kNoInput.
std::vector<std::vector<int32_t>> read_ids_file(const std::string& path);
// The plan of a file, checked against the model; if `path` is empty, a native export's own, else the
// identity.
ExpertPlan plan_or_identity(const std::string& path, ModelContext& model);

// Throws Error(kUsage) if the model is a native export: its router belongs to one plan.
void require_original(const RawModel& model, const std::string& path);

}  // namespace eep
