// A GGUF model with fewer experts: what is stored for the others is left out, all else is copied byte for
// byte, so quantised weights stay as they are. Tensors are told by their names, whatever the architecture:
// those of all experts have them on their first axis. What llama.cpp runs, it runs pruned.
#pragma once

#include "engine/expert_plan.h"
#include "loaders/formats/gguf.h"
#include "loaders/models/export_shards.h"
#include "loaders/models/plan_io.h"

namespace eep {

struct GgufPruning {
  ExpertPlan plan;
  PlanInfo info;              // its hash, of a checkpoint in another layout, is not compared
  bool prunes_nextn = false;  // layers for multi-token prediction: what the last layer keeps; else refused
};

// The file's bytes, in order, and how many there are. `file` was parsed with GgufTensors::kStored. Throws
// Error(kData) with the reason where the plan does not fit the file or GGUF cannot express it: merged
// experts, counts that differ between layers, groups of experts that would be of unequal size, a softmax that
// would be over fewer experts.
class PrunedGguf {
 public:
  PrunedGguf(const GgufFile& file, const GgufPruning& pruning);

  size_t bytes() const { return bytes_; }
  void produce(const ByteSink& sink) const;

 private:
  struct Part {  // of the source, `padding` zeros after it
    const uint8_t* data;
    size_t bytes, padding;
  };

  std::string header_;
  std::vector<Part> parts_;
  size_t bytes_ = 0;
};

}  // namespace eep
