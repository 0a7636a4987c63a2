// A GGUF model as a Hugging Face checkpoint: architectures llama (dense, or Mixtral when it has experts),
// qwen2moe and qwen3moe. Names, shapes and the order of q and k rows are mapped, quantised weights widened
// and rounded once to the checkpoint's dtype.
#pragma once

#include <string>
#include <vector>

#include "loaders/formats/gguf.h"
#include "loaders/formats/json.h"
#include "loaders/models/export_shards.h"

namespace eep {

struct ConvertedModel {
  Json config;  // config.json
  std::vector<StreamedTensor> tensors;
  bool dense_llama = false;
};

// The dtype that loses nothing where all matrices are of one plain type, else BF16.
DType gguf_natural_dtype(const GgufFile& file);

// `file` and what it points into must outlive the result. Throws Error(kData) naming a key or tensor.
ConvertedModel convert_gguf(const GgufFile& file, DType dtype);

// A dense llama as a Mixtral of one expert, which is the same function: the router's only weight is 1.
void make_one_expert(ConvertedModel& model);

}  // namespace eep
