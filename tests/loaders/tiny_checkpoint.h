// A small checkpoint made in memory, in any family, layout, dtype and sharding, for tests to write and to
// damage.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/common/float16.h"
#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "tests/loaders/scratch.h"

namespace eep {

struct TinyTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string bytes;
  Code code = Code::kNone;
};

enum class TinyLayout { kPerExpert, kFused, kTransposed };

class TinyCheckpoint {
 public:
  // hidden 6, 2 heads of 4, 1 kv head, 2 layers, 3 experts of `inner`, vocabulary 7.
  explicit TinyCheckpoint(const std::string& family, TinyLayout layout = TinyLayout::kPerExpert,
                          DType dtype = DType::kF32, int inner = 5)
      : family_(family), layout_(layout), dtype_(dtype), inner_(inner) {
    config = {{"model_type", family},
              {"hidden_size", 6},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 2},
              {"num_key_value_heads", 1},
              {"head_dim", 4},
              {"vocab_size", 7},
              {"max_position_embeddings", 64},
              {"num_experts_per_tok", 2},
              {"rms_norm_eps", 1e-5},
              {"hidden_act", "silu"},
              {"rope_theta", 10000.0},
              {"tie_word_embeddings", false},
              {"eos_token_id", 2}};
    if (family == "mixtral") {
      config["num_local_experts"] = 3;
      config["intermediate_size"] = inner;
    } else if (family == "olmoe") {
      config["num_experts"] = 3;
      config["intermediate_size"] = inner;
      config["clip_qkv"] = 0.5;
    } else if (family == "glm4_moe") {  // a dense layer, then one with experts
      config.update({{"n_routed_experts", 3},
                     {"moe_intermediate_size", inner},
                     {"intermediate_size", 8},
                     {"n_shared_experts", 2},
                     {"first_k_dense_replace", 1},
                     {"routed_scaling_factor", 1.5},
                     {"attention_bias", true},
                     {"use_qk_norm", true},
                     {"partial_rotary_factor", 0.5}});
    } else {
      config["num_experts"] = 3;
      config["moe_intermediate_size"] = inner;
      config["intermediate_size"] = 8;
      if (family == "qwen2_moe") config["shared_expert_intermediate_size"] = 4;
    }
    add("model.embed_tokens.weight", {7, 6});
    for (int layer = 0; layer < 2; ++layer) add_layer("model.layers." + std::to_string(layer) + ".");
    add("model.norm.weight", {6});
    add("lm_head.weight", {7, 6});
  }

  Json config;
  std::map<std::string, TinyTensor> tensors;
  std::map<std::string, int> shard_of;  // 0, 1, ... for files with an index; empty: one file

  // Values depend on the name and the place in the per-expert layout alone.
  void add(const std::string& name, const std::vector<int64_t>& shape) {
    TinyTensor tensor{dtype_, shape, {}, Code::kNone};
    int64_t count = 1;
    for (int64_t extent : shape) count *= extent;
    for (int64_t i = 0; i < count; ++i) tensor.bytes += element(name, i);
    tensors[name] = std::move(tensor);
  }

  std::string write(const Scratch& scratch) const {
    scratch.write("config.json", config.dump(1));
    std::map<std::string, std::vector<NamedTensor>> files;
    Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
    for (const auto& [name, tensor] : tensors) {
      const auto shard = shard_of.find(name);
      const std::string file =
          shard_of.empty()
              ? "model.safetensors"
              : "shard-" + std::to_string(shard == shard_of.end() ? 0 : shard->second) + ".safetensors";
      files[file].push_back({{name, tensor.dtype, tensor.shape, tensor.code}, tensor.bytes.data()});
      index["weight_map"][name] = file;
    }
    for (const auto& [file, list] : files) write_safetensors(scratch.path(file), list);
    if (!shard_of.empty()) scratch.write("model.safetensors.index.json", index.dump(1));
    return scratch.path();
  }

 private:
  std::string element(const std::string& name, int64_t i) const {
    uint32_t hash = 2166136261u;
    for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    hash = (hash ^ static_cast<uint32_t>(i)) * 2654435761u;
    const float value = static_cast<float>(hash >> 16) / 32768.0f - 1.0f;
    if (dtype_ == DType::kF32) return std::string(reinterpret_cast<const char*>(&value), 4);
    const uint16_t bits = dtype_ == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    return std::string(reinterpret_cast<const char*>(&bits), 2);
  }

  void add_layer(const std::string& prefix) {
    add(prefix + "input_layernorm.weight", {6});
    add(prefix + "post_attention_layernorm.weight", {6});
    add(prefix + "self_attn.q_proj.weight", {8, 6});
    add(prefix + "self_attn.k_proj.weight", {4, 6});
    add(prefix + "self_attn.v_proj.weight", {4, 6});
    add(prefix + "self_attn.o_proj.weight", {6, 8});
    if (family_ == "qwen2_moe" || family_ == "glm4_moe") {
      add(prefix + "self_attn.q_proj.bias", {8});
      add(prefix + "self_attn.k_proj.bias", {4});
      add(prefix + "self_attn.v_proj.bias", {4});
    }
    if (family_ == "qwen3_moe" || family_ == "glm4_moe") {
      add(prefix + "self_attn.q_norm.weight", {4});
      add(prefix + "self_attn.k_norm.weight", {4});
    }
    if (family_ == "olmoe") {
      add(prefix + "self_attn.q_norm.weight", {8});
      add(prefix + "self_attn.k_norm.weight", {4});
    }
    const bool old_mixtral = family_ == "mixtral" && layout_ == TinyLayout::kPerExpert;
    const std::string mlp = prefix + (old_mixtral ? "block_sparse_moe." : "mlp.");
    if (family_ == "glm4_moe" && prefix == "model.layers.0.") return add_ffn(mlp, prefix + "dense", 8, false);
    add_as(mlp + "gate.weight", prefix + "router", {3, 6});
    if (family_ == "glm4_moe") {
      add(mlp + "gate.e_score_correction_bias", {3});
      add_ffn(mlp + "shared_experts.", prefix + "shared", 2 * inner_, false);
    }
    if (family_ == "qwen2_moe") {
      add_ffn(mlp + "shared_expert.", prefix + "shared", 4, false);
      add(mlp + "shared_expert_gate.weight", {1, 6});
    }
    if (layout_ == TinyLayout::kPerExpert) {
      for (int expert = 0; expert < 3; ++expert) {
        add_ffn(mlp + "experts." + std::to_string(expert) + ".", prefix + std::to_string(expert), inner_,
                old_mixtral);
      }
      return;
    }
    const bool transposed = layout_ == TinyLayout::kTransposed;
    TinyTensor gate_up{
        dtype_,
        transposed ? std::vector<int64_t>{3, 6, 2 * inner_} : std::vector<int64_t>{3, 2 * inner_, 6},
        {}};
    TinyTensor down{
        dtype_, transposed ? std::vector<int64_t>{3, inner_, 6} : std::vector<int64_t>{3, 6, inner_}, {}};
    for (int expert = 0; expert < 3; ++expert) {
      const std::string name = prefix + std::to_string(expert);
      const auto gate_or_up = [&](int64_t row, int64_t column) {
        return row < inner_ ? element(name + "gate", row * 6 + column)
                            : element(name + "up", (row - inner_) * 6 + column);
      };
      for (int64_t i = 0; i < 12 * inner_; ++i) {
        gate_up.bytes +=
            transposed ? gate_or_up(i % (2 * inner_), i / (2 * inner_)) : gate_or_up(i / 6, i % 6);
      }
      for (int64_t i = 0; i < 6 * inner_; ++i) {
        down.bytes += element(name + "down", transposed ? i % 6 * inner_ + i / 6 : i);
      }
    }
    tensors[mlp + "experts.gate_up_proj"] = std::move(gate_up);
    tensors[mlp + "experts.down_proj"] = std::move(down);
  }

  void add_ffn(const std::string& prefix, const std::string& seed, int64_t inner, bool numbered) {
    add_as(prefix + (numbered ? "w1.weight" : "gate_proj.weight"), seed + "gate", {inner, 6});
    add_as(prefix + (numbered ? "w3.weight" : "up_proj.weight"), seed + "up", {inner, 6});
    add_as(prefix + (numbered ? "w2.weight" : "down_proj.weight"), seed + "down", {6, inner});
  }

  void add_as(const std::string& name, const std::string& seed, const std::vector<int64_t>& shape) {
    add(seed, shape);
    auto values = tensors.extract(seed);
    values.key() = name;
    tensors.insert(std::move(values));
  }

  std::string family_;
  TinyLayout layout_;
  DType dtype_;
  int64_t inner_;
};

}  // namespace eep
