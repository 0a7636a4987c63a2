// Weights: a model's base weights in the backend's layout. Packing is the only second copy; the embedding
// table stays mapped on the CPU.
#pragma once

#include <vector>

#include "engine/config.h"
#include "engine/device_buffer.h"
#include "engine/ops.h"
#include "engine/raw_model.h"
#include "kernels/device.h"
#include "kernels/expert_ffn.h"
#include "kernels/tensor.h"

namespace eep {

struct LayerWeights {
  const float* input_norm = nullptr;  // [hidden]
  PackedMatrix q, k, v;               // [heads * head_dim, hidden], [kv_heads * head_dim, hidden] twice
  PackedMatrix o;                     // [hidden, heads * head_dim]
  const float* q_bias = nullptr;      // [heads * head_dim] or null
  const float* k_bias = nullptr;      // [kv_heads * head_dim] or null
  const float* v_bias = nullptr;      // [kv_heads * head_dim] or null
  const float* q_norm = nullptr;      // [head_dim] or null
  const float* k_norm = nullptr;      // [head_dim] or null
  const float* post_norm = nullptr;   // [hidden]
  bool sparse = true;
  PackedMatrix router;                  // [experts, hidden]
  std::vector<ExpertMatrices> experts;  // [experts]; gate, up and down of one expert lie one after the other
  ExpertMatrices shared;                // intermediate = shared_intermediate_size
  PackedMatrix shared_gate;             // [1, hidden]
  ExpertMatrices dense;                 // dense layers
};

class Weights {
 public:
  // Packs every matrix. Throws Error(kRuntime) if memory does not suffice. `raw` must outlive this object
  // (on the CPU the embedding is a view into it).
  Weights(const RawModel& raw, const Ops& ops, const Device& device = {});

  const ModelConfig& config() const { return config_; }
  const LayerWeights& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }
  const Tensor& embedding() const { return embedding_; }          // [vocab, hidden], the checkpoint's dtype
  const float* final_norm() const { return final_norm_; }         // [hidden]
  const PackedMatrix& vocabulary() const { return vocabulary_; }  // [vocab, hidden]
  size_t packed_bytes() const { return packed_bytes_; }

  // Bytes that packing will take, from the config alone.
  static size_t packed_bytes(const ModelConfig& config, const Ops& ops);

 private:
  ModelConfig config_;
  std::vector<LayerWeights> layers_;
  Tensor embedding_;
  const float* final_norm_ = nullptr;
  PackedMatrix vocabulary_;
  DeviceBuffer storage_;
  size_t packed_bytes_ = 0;
};

}  // namespace eep
