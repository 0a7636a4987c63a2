// GGUF files made in memory, for tests to convert and to damage.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "loaders/formats/gguf.h"

namespace eep {

class GgufWriter {
 public:
  static std::string number(uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
    return text;
  }
  static std::string text(const std::string& value) { return number(value.size(), 8) + value; }

  void integer(const std::string& key, uint32_t value) { entry(key, 4, number(value, 4)); }
  void boolean(const std::string& key, bool value) { entry(key, 7, number(value ? 1 : 0, 1)); }
  void real(const std::string& key, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    entry(key, 6, number(bits, 4));
  }
  void string(const std::string& key, const std::string& value) { entry(key, 8, text(value)); }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes = number(8, 4) + number(values.size(), 8);
    for (const std::string& value : values) bytes += text(value);
    entry(key, 9, bytes);
  }
  void integers(const std::string& key, const std::vector<int32_t>& values) {
    std::string bytes = number(5, 4) + number(values.size(), 8);
    for (int32_t value : values) bytes += number(static_cast<uint32_t>(value), 4);
    entry(key, 9, bytes);
  }
  void reals(const std::string& key, const std::vector<float>& values) {
    std::string bytes = number(6, 4) + number(values.size(), 8);
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    entry(key, 9, bytes);
  }
  void entry(const std::string& key, uint32_t type, const std::string& bytes) {
    entries_ += text(key) + number(type, 4) + bytes;
    ++entry_count_;
  }

  // shape as in PyTorch; values depend on the name and the place alone.
  void tensor(const std::string& name, const std::vector<int64_t>& shape) {
    std::string bytes;
    int64_t count = 1;
    for (int64_t extent : shape) count *= extent;
    for (int64_t i = 0; i < count; ++i) {
      const float value = element(name, i);
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    stored_tensor(name, shape, 0, bytes);
  }
  void stored_tensor(const std::string& name, const std::vector<int64_t>& shape, uint32_t type,
                     const std::string& bytes) {
    infos_ += text(name) + number(shape.size(), 4);
    for (size_t axis = shape.size(); axis-- > 0;) infos_ += number(static_cast<uint64_t>(shape[axis]), 8);
    infos_ += number(type, 4) + number(data_.size(), 8);
    data_ += bytes;
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    ++tensor_count_;
  }
  static float element(const std::string& name, int64_t i) {
    uint32_t hash = 2166136261u;
    for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    hash = (hash ^ static_cast<uint32_t>(i)) * 2654435761u;
    const float value = static_cast<float>(hash >> 16) / 32768.0f - 1.0f;
    return name.find("norm") != std::string::npos ? 1 + value / 8 : value / 2;
  }

  std::string bytes() const {
    std::string file =
        "GGUF" + number(3, 4) + number(tensor_count_, 8) + number(entry_count_, 8) + entries_ + infos_;
    file.resize((file.size() + 31) / 32 * 32, '\0');
    return file + data_;
  }

  // hidden 8, 2 heads of 4, 1 kv head, 2 layers, FFN 12, vocabulary 16; experts 0: dense. single: a tensor
  // an expert, as older files have it. all_dense: of glm4moe, which has one dense layer else.
  void model(const std::string& architecture, int64_t experts, bool single = false, bool all_dense = false) {
    const std::string p = architecture + ".";
    string("general.architecture", architecture);
    for (const auto& [key, value] :
         std::map<std::string, uint32_t>{{"block_count", architecture == "glm4moe" ? 3 : 2},
                                         {"context_length", 64},
                                         {"embedding_length", 8},
                                         {"feed_forward_length", 12},
                                         {"attention.head_count", 2},
                                         {"attention.head_count_kv", 1},
                                         {"attention.key_length", 4}}) {
      integer(p + key, value);
    }
    real(p + "attention.layer_norm_rms_epsilon", 1e-5f);
    real(p + "rope.freq_base", 10000.0f);
    if (experts > 0) {
      integer(p + "expert_count", static_cast<uint32_t>(experts));
      integer(p + "expert_used_count", 2);
    }
    const bool glm = architecture == "glm4moe", gpt_oss = architecture == "gpt-oss";
    if (glm) {  // a dense layer, then one with experts; half of a head turns; one more for multi-token prediction
      integer(p + "rope.dimension_count", 2);
      integer(p + "expert_gating_func", 2);
      integer(p + "expert_shared_count", 2);
      integer(p + "leading_dense_block_count", 1);
      integer(p + "nextn_predict_layers", 1);
      real(p + "expert_weights_scale", 1.5f);
      boolean(p + "expert_weights_norm", true);
      tensor("blk.2.nextn.eh_proj.weight", {8, 16});
    }
    if (gpt_oss) {
      integer(p + "attention.sliding_window", 5);
      string(p + "rope.scaling.type", "yarn");
      real(p + "rope.scaling.factor", 4.0f);
      integer(p + "rope.scaling.original_context_length", 16);
    }
    tensor("token_embd.weight", {16, 8});
    for (const std::string& layer : {std::string("blk.0."), std::string("blk.1.")}) {
      tensor(layer + "attn_norm.weight", {8});
      tensor(layer + "attn_q.weight", {8, 8});
      tensor(layer + "attn_k.weight", {4, 8});
      tensor(layer + "attn_v.weight", {4, 8});
      tensor(layer + "attn_output.weight", {8, 8});
      tensor(layer + (glm || gpt_oss ? "post_attention_norm.weight" : "ffn_norm.weight"), {8});
      if (architecture == "qwen2moe" || glm || gpt_oss) {
        tensor(layer + "attn_q.bias", {8});
        tensor(layer + "attn_k.bias", {4});
        tensor(layer + "attn_v.bias", {4});
      }
      if (gpt_oss) {
        tensor(layer + "attn_output.bias", {8});
        tensor(layer + "attn_sinks.weight", {2});
        tensor(layer + "ffn_gate_inp.bias", {experts});
        tensor(layer + "ffn_gate_exps.bias", {experts, 4});
        tensor(layer + "ffn_up_exps.bias", {experts, 4});
        tensor(layer + "ffn_down_exps.bias", {experts, 8});
      }
      if (architecture == "olmoe") {
        tensor(layer + "attn_q_norm.weight", {8});
        tensor(layer + "attn_k_norm.weight", {4});
      }
      if (glm && (all_dense || layer == "blk.0.")) {
        ffn(layer, "", {}, 12);
        continue;
      }
      if (glm) {
        tensor(layer + "exp_probs_b.bias", {experts});
        ffn(layer, "_shexp", {}, 8);
      }
      if (architecture == "qwen2moe") {
        tensor(layer + "ffn_gate_inp_shexp.weight", {8});
        ffn(layer, "_shexp", {}, 6);
      }
      if (architecture == "qwen3moe") {
        tensor(layer + "attn_q_norm.weight", {4});
        tensor(layer + "attn_k_norm.weight", {4});
      }
      if (experts > 0) tensor(layer + "ffn_gate_inp.weight", {experts, 8});
      for (int64_t expert = 0; single && expert < experts; ++expert) {
        ffn(layer, "." + std::to_string(expert), {}, 4);
      }
      if (!single) experts > 0 ? ffn(layer, "_exps", {experts}, 4) : ffn(layer, "", {}, 12);
    }
    tensor("output_norm.weight", {8});
  }

 private:
  void ffn(const std::string& layer, const std::string& kind, std::vector<int64_t> first, int64_t inner) {
    std::vector<int64_t> wide = first, narrow = first;
    wide.insert(wide.end(), {inner, 8});
    narrow.insert(narrow.end(), {8, inner});
    tensor(layer + "ffn_gate" + kind + ".weight", wide);
    tensor(layer + "ffn_up" + kind + ".weight", wide);
    tensor(layer + "ffn_down" + kind + ".weight", narrow);
  }

  std::string entries_, infos_, data_;
  uint64_t entry_count_ = 0, tensor_count_ = 0;
};

}  // namespace eep
