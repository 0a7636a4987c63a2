// What several commands read: lists of token ids, plans checked against a model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "experiments/program/program.h"
#include "experiments/study/model_context.h"

namespace eep {

// "hf" and "eep"; else none.
Parity parity_named(const std::string& name);

// The model on the device of the options, within their memory. Says where its weights are rounded for it. The
// second takes the parity mode and the precision from the options.
// stage, of so many: which part of the layers (engine/stages.h).
std::unique_ptr<ModelContext> open_model(const std::string& path, CommandContext& context,
                                         const std::string& parity, const std::string& precision,
                                         int stage = 0, int stages = 1);
std::unique_ptr<ModelContext> open_model(const std::string& path, CommandContext& context);

// load_checkpoint(), which says what is to be known of how it was read.
RawModel read_checkpoint(const std::string& path, CommandContext& context);

// "1 2 3" or "[1, 2, 3]". Throws Error(kUsage).
std::vector<int32_t> parse_ids(const std::string& text);
// A JSON list of lists of ids. Throws Error(kData), kNoInput.
std::vector<std::vector<int32_t>> read_ids_file(const std::string& path);
// The plan of a file, checked against the model; if `path` is empty, a native export's own, else the
// identity.
ExpertPlan plan_or_identity(const std::string& path, ModelContext& model);
// Warns of a plan that keeps every expert as it is, with the model's own router.
void warn_of_no_change(const ExpertPlan& plan, const ModelConfig& config, const std::string& path,
                       CommandContext& context);

}  // namespace eep
