// A plan applied to a checkpoint, written as a smaller checkpoint: in Hugging Face layout when a stock loader
// computes exactly what the plan means, else in eep's own layout, which load_checkpoint reads back.
//
// Native layout: eep_config.json (the source's config.json), eep*.safetensors (each layer's own number of
// experts, the whole gate), plan.json (the router's map; row j of expert_merging is stored expert j). There
// is no config.json, so that no stock loader takes it for something it can run.
#pragma once

#include <string>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"
#include "kernels/common/device.h"
#include "loaders/models/export_tensors.h"
#include "loaders/models/plan_io.h"

namespace eep {

struct ExportOptions {
  ExportFormat format = ExportFormat::kHf;
  MtpExport mtp = MtpExport::kRefuse;
  size_t shard_bytes = 0;  // most bytes of tensors a file; 0: as the source
  std::string source_hash;
  std::string program;  // name and version, for the provenance
  std::string command;  // the command line, for the model card; may be empty
  Device device;
  ByteProgress progress;
};

// Why a stock loader cannot compute what the plan means; empty when it can. per_layer: one that reads the
// layers' own counts of experts.
std::string hf_obstacle(const ModelConfig& config, const ExpertPlan& plan, bool per_layer = false);

// True where export and plan agree to the last bit on one backend: no gate row is mixed and the plan's router
// works on logits.
bool hf_bit_exact(const ExpertPlan& plan);

// True of a plan under which every layer keeps all its experts, none merged, and their router rows.
bool keeps_all_experts(const ExpertPlan& plan);

// The config that goes with an export in that layout: the source's `text` with what the plan changes.
std::string exported_config(const std::string& text, const RawModel& model, const ExpertPlan& plan,
                            ExportFormat format, MtpExport mtp = MtpExport::kRefuse);

// The plan that a native directory carries: the router's map as it is, stored experts in their order.
ExpertPlan native_plan(const ExpertPlan& plan);

// Throws Error(kData) with the reason if the plan cannot be expressed; kUsage if `out` is there and not
// empty. `model` was loaded from the directory `source`, and the plan checked against it.
void export_checkpoint(const RawModel& model, const std::string& source, const ExpertPlan& plan,
                       const PlanInfo& info, const ExportOptions& options, const std::string& out);

// A layer in whose exported gate rows of different experts became equal, by the plan or by rounding: no
// loader can tell them apart.
struct RouterTie {
  std::string tensor;
  std::string what;  // which rows are equal
  std::string text() const { return tensor + ": " + what; }
};
std::vector<RouterTie> router_ties(const RawModel& model, const ExpertPlan& plan, const Device& device);

// The files of a model directory that go along unchanged: tokenizer, chat template, generation config,
// licence. Names relative to the directory, sorted.
std::vector<std::string> side_files(const std::string& directory);
void copy_side_files(const std::string& source, const std::string& target);

}  // namespace eep
