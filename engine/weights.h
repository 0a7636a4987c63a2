// Weights: a model's base weights in the backend's layout. Packing is the only second copy; the embedding
// table stays mapped on the CPU; layers that the device has no room for stay in the host's memory and are
// streamed (layer_stream.h). On the CPU those are packed anew from the mapped checkpoint, whose pages the
// system may take back, each time that a pass comes to them.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "engine/config.h"
#include "engine/device_buffer.h"
#include "engine/layer_stream.h"
#include "engine/ops.h"
#include "engine/raw_model.h"
#include "engine/stages.h"
#include "engine/weight_plan.h"
#include "kernels/common/device.h"
#include "kernels/common/tensor.h"
#include "kernels/expert_ffn.h"

namespace eep {

struct LayerWeights {
  const float* input_norm = nullptr;  // [hidden]
  PackedMatrix q, k, v;               // [heads * head_dim, hidden], [kv_heads * head_dim, hidden] twice
  PackedMatrix o;                     // [hidden, heads * head_dim]
  const float* q_bias = nullptr;      // [heads * head_dim] or null
  const float* k_bias = nullptr;      // [kv_heads * head_dim] or null
  const float* v_bias = nullptr;      // [kv_heads * head_dim] or null
  const float* o_bias = nullptr;      // [hidden] or null
  const float* sinks = nullptr;       // [heads] or null
  const float* q_norm = nullptr;      // [head_dim], [heads * head_dim] or null, as qk_norm says
  const float* k_norm = nullptr;      // [head_dim], [kv_heads * head_dim] or null
  const float* post_norm = nullptr;   // [hidden]
  bool sparse = true;
  PackedMatrix router;                  // [experts, hidden]
  const float* router_bias = nullptr;   // [experts] or null
  std::vector<ExpertMatrices> experts;  // [experts]; gate, up and down of one expert lie one after the other
  ExpertMatrices shared;                // intermediate = shared_intermediate_size
  PackedMatrix shared_gate;             // [1, hidden], or none
  ExpertMatrices dense;                 // dense layers
};

class Weights {
 public:
  // Packs every matrix. Throws Error(kRuntime) if memory does not suffice. `raw` must outlive this object (on
  // the CPU the embedding is a view into it, and layers are packed from it again).
  Weights(const RawModel& raw, const Backend& backend);  // every layer resident
  Weights(const RawModel& raw, const Backend& backend, const WeightPlan& plan);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const ModelConfig& config() const { return config_; }
  // What packed them, and what computes with them.
  const Backend& backend() const { return backend_; }
  const Ops& ops() const { return *backend_.ops; }
  const Device& device() const { return backend_.device; }
  // For work that is given to the device before the layer after the next one is asked for.
  const LayerWeights& layer(int64_t index) const;
  const Tensor& embedding() const { return packed_->embedding; }   // [vocab, hidden], the checkpoint's dtype
  const float* final_norm() const { return packed_->final_norm; }  // [hidden]
  const PackedMatrix& vocabulary() const { return packed_->vocabulary; }  // [vocab, hidden]
  const WeightPlan& plan() const { return packed_->plan; }
  const LayerRange& layers() const { return packed_->plan.layers; }  // others have no weights here
  // Packs once more, with so many layers streamed that the weights leave `work` bytes of the budget; false if
  // no number of them does. Before a pass: it reads the checkpoint again, and what layer() gave is gone.
  // Const, as everything that is computed with them stays what it was.
  bool make_room(size_t budget, size_t work) const;
  // Who has the other layers; null where none is missing. It outlives its use.
  void set_link(StageLink* link) { link_ = link; }
  StageLink* link() const { return link_; }
  int64_t streamed_copies() const;

  // Bytes that packing will take, of all and of one layer, from the config alone.
  static size_t packed_bytes(const ModelConfig& config, const Ops& ops);
  // Of a stage: the embedding is the first layer's, the vocabulary the last one's; no layers at either end:
  // that alone.
  static size_t packed_bytes(const ModelConfig& config, const Ops& ops, LayerRange layers);
  static size_t layer_bytes(const ModelConfig& config, const Ops& ops, bool sparse);

 private:
  struct Streamed {
    int64_t number;                                  // among the streamed ones
    std::array<LayerWeights, kStreamBuffers> views;  // into each buffer
  };
  class Repacked;
  struct Packed {
    Packed(const RawModel& raw, const Backend& backend, const WeightPlan& plan);
    ~Packed();

    WeightPlan plan;
    std::vector<LayerWeights> layers;                 // [layers] empty for streamed ones
    std::vector<std::unique_ptr<Streamed>> streamed;  // [layers] null: resident
    std::unique_ptr<LayerStream> stream;              // null: every layer is resident, or packed anew
    std::unique_ptr<Repacked> repacked;
    Tensor embedding;
    const float* final_norm = nullptr;
    PackedMatrix vocabulary;
    DeviceBuffer storage;
  };

  const RawModel& raw_;
  ModelConfig config_;
  Backend backend_;
  StageLink* link_ = nullptr;
  mutable std::unique_ptr<Packed> packed_;
};

}  // namespace eep
