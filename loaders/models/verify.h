// What an exported (or any) checkpoint directory is checked for. transformers fills a missing tensor with
// random numbers and llama.cpp reads shards that no index names: a wrong export runs, so it is looked at.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"
#include "kernels/common/device.h"
#include "loaders/models/export_tensors.h"

namespace eep {

struct Check {
  std::string name;
  bool passed = true;
  std::string detail;  // what was found; the fault when it did not pass
};

// The directory on its own: config, names, shapes, dtypes, index and total size, stale shards, metadata,
// per-expert layout, finite values, tokenizer, plan file. `model` receives the loaded checkpoint if it loads.
std::vector<Check> verify_directory(const std::string& directory, std::optional<RawModel>& model);

// Against the model it was made from: config up to the counts, side files, gate rows against the map in
// double precision, and every tensor byte for byte against the source's or against the merge done again.
std::vector<Check> verify_against(const std::string& directory, const RawModel& exported,
                                  const std::string& source_directory, const RawModel& source,
                                  const ExpertPlan& plan, const Device& device, const ByteProgress& progress);

// An export with the source's whole gates in place of its own, and the plan that then gives the source's plan
// to the bit, whatever the router's map: as a native export, of which it has all but the file. Views into
// `exported` and `source`.
RawModel with_source_gates(const RawModel& exported, const RawModel& source, const ExpertPlan& plan);

}  // namespace eep
