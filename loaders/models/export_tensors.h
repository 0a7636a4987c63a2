// The tensors of a model after a plan, in the names of the family's releases, one an expert (gpt-oss: fused):
// merged experts and mapped gate rows are summed in f32 in expert order with one rounding to the checkpoint's
// dtype (kernels/expert_merge), everything else is copied byte for byte.
#pragma once

#include <vector>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"
#include "kernels/common/device.h"
#include "loaders/models/export_shards.h"
#include "loaders/models/mtp.h"

namespace eep {

enum class ExportFormat {
  kHf,          // what stock loaders read: the router map is folded into the gate
  kHfPerLayer,  // the same with counts by layer, for loaders that read them
  kNative       // what only eep reads: the whole gate, the map stays in the plan
};

// Whether matrices in 8 or 4 bits go on as they are stored, numbers and scales: where the plan only selects
// experts and each matrix has blocks of its own. Else all of them become values of the checkpoint's dtype,
// and quantization_config goes (export_config.h).
bool stays_coded(const RawModel& model, const ExpertPlan& plan);

// In the order in which they are written. `model` and `plan` must outlive the result.
// Throws Error(kData) for layers of multi-token prediction that cannot be had so.
std::vector<StreamedTensor> export_tensors(const RawModel& model, const ExpertPlan& plan, ExportFormat format,
                                           const Device& device, MtpExport mtp = MtpExport::kRefuse);

}  // namespace eep
