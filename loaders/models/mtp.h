// Layers for multi-token prediction: tensors that some checkpoints have beside the model, which the engine
// does not run. In an export they are left out, copied, or left with the experts that the last layer keeps.
#pragma once

#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"
#include "loaders/models/export_shards.h"

namespace eep {

// They have a prefix of their own, or the numbers [first, past) behind those of the model's layers.
bool is_mtp(const std::string& name, int64_t first, int64_t past);

// What becomes of them in an export; a plan says nothing of them.
enum class MtpExport {
  kRefuse,  // where there are any
  kKeep,    // copied
  kPrune,   // with the selection of the last layer with experts
  kDrop
};

// One as it is stored, a view into the model's files.
struct ExtraTensor {
  SafetensorsEntry entry;
  const uint8_t* data = nullptr;
};

// Those of a model, by name.
std::vector<ExtraTensor> mtp_tensors(const RawModel& model);

// Those of an export. Throws Error(kData) with the remedy where they are there and refused, where a plan that
// merges in the last layer is to prune them, or where they are in 8 bits and `coded` (the export's other
// matrices stay so) is false.
std::vector<StreamedTensor> export_mtp(const RawModel& model, const ExpertPlan& plan, MtpExport mtp,
                                       bool coded);

// What was done, from what is left of them.
MtpExport mtp_of_export(const RawModel& exported, const RawModel& source);

}  // namespace eep
