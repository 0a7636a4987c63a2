// The engine at released sizes without their arithmetic: ops that do nothing over addresses that nobody
// reads, and a checkpoint of any configuration that has no weights. What is planned, counted and asked for is
// what a real run plans, counts and asks for.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "engine/ops.h"
#include "engine/raw_model.h"
#include "loaders/models/config_json.h"

namespace eep::test {

// The table of a GPU whose ops do nothing. Downloads give zeros. A table holds functions without state.
inline Ops idle_ops() {
  Ops ops = simt_ops();
  ops.allocate = [](size_t bytes, const Device&) -> void* {
    static uintptr_t next = uintptr_t{1} << 44;
    const uintptr_t at = next;
    next += (bytes + 4095) / 4096 * 4096;
    return reinterpret_cast<void*>(at);
  };
  ops.release = [](void*, const Device&) {};
  ops.upload = [](void*, const void*, size_t, const Device&) {};
  ops.download = [](void* to, const void*, size_t bytes, const Device&) { std::memset(to, 0, bytes); };
  ops.copy = [](void*, const void*, size_t, const Device&) {};
  ops.clear = [](void*, size_t, const Device&) {};
  ops.pack = [](const void*, int64_t n, int64_t k, int64_t, int64_t, DType dtype, void* destination,
                const Device&) {
    return PackedMatrix{destination, dtype, n, k};
  };
  ops.embed = [](const EmbedArgs&, const Device&) {};
  ops.rmsnorm = [](const RmsNormArgs&, const Device&) {};
  ops.gemm = [](const GemmArgs&, const Device&) {};
  ops.rope = [](const RopeArgs&, const Device&) {};
  ops.clamp = [](const ClampArgs&, const Device&) {};
  ops.kv_scatter = [](const KvScatterArgs&, const Device&) {};
  ops.attention = [](const AttentionArgs&, const Device&) {};
  ops.router = [](const RouterArgs&, const Device&) {};
  ops.dispatch = [](const DispatchArgs&, const Device&) {};
  ops.expert_merge = [](const ExpertMergeArgs&, const Device&) {};
  ops.expert_ffn = [](const ExpertFfnArgs&, const Device&) {};
  ops.combine = [](const CombineArgs&, const Device&) {};
  ops.score = [](const ScoreArgs&, const Device&) {};
  return ops;
}

// A checkpoint of bench/configs, or its first layers, whose matrices are addresses alone.
class HollowModel {
 public:
  explicit HollowModel(const std::string& name, int64_t layers = 0) {
    raw.config =
        parse_config(JsonDocument::read(std::string(EEP_SOURCE_DIR) + "/bench/configs/" + name + ".json"));
    if (layers > 0) raw.config.num_layers = layers;
    raw.config.sparse.resize(static_cast<size_t>(raw.config.num_layers));
    const ModelConfig& config = raw.config;
    zeros_.resize(static_cast<size_t>(config.hidden_size + config.num_heads * config.head_dim));
    raw.embedding = Tensor(zeros_.data(), config.dtype, {config.vocab_size, config.hidden_size});
    raw.final_norm = vector(config.hidden_size);
    for (int64_t index = 0; index < config.num_layers; ++index) {
      RawLayer layer;
      layer.input_norm = layer.post_norm = vector(config.hidden_size);
      layer.q_norm = layer.k_norm = vector(config.head_dim);
      layer.q_bias = layer.k_bias = layer.v_bias = vector(config.num_heads * config.head_dim);
      if (config.o_bias) layer.o_bias = vector(config.hidden_size);
      if (config.sinks) layer.sinks = vector(config.num_heads);
      if (config.has_router_bias()) layer.router_bias = vector(config.num_experts);
      layer.experts.resize(static_cast<size_t>(config.num_experts));
      raw.layers.push_back(std::move(layer));
    }
  }

  RawModel raw;

 private:
  Tensor vector(int64_t size) { return Tensor(zeros_.data(), DType::kF32, {size}); }

  std::vector<float> zeros_;
};

}  // namespace eep::test
