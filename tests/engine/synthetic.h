// Synthetic models for tests: any ModelConfig filled with seeded weights, in f32, f16 or bf16, as a RawModel.
// The weights are the same on every machine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"
#include "kernels/common/float16.h"
#include "kernels/noise.h"

namespace eep::test {

inline ModelConfig tiny_config(Family family) {
  ModelConfig config;
  config.family = family;
  config.vocab_size = 53;
  config.hidden_size = 40;
  config.num_layers = 3;
  config.num_heads = 6;
  config.num_kv_heads = 2;
  config.head_dim = 10;
  config.max_positions = 128;
  config.rms_norm_eps = 1e-5f;
  config.rope_theta = 10000;
  config.num_experts = 5;
  config.top_k = 2;
  config.expert_intermediate_size = 23;
  config.dtype = DType::kF32;
  config.sparse = {1, 1, 1};
  config.eos_token_ids = {1};
  if (family == Family::kQwen2Moe) {
    config.qkv_bias = true;
    config.shared_intermediate_size = 31;
    config.dense_intermediate_size = 37;
    config.norm_topk_prob = false;
    config.sparse = {1, 0, 1};
    config.num_experts = 7;
    config.top_k = 3;
  } else if (family == Family::kQwen3Moe) {
    config.qk_norm = QkNorm::kHead;
    config.tie_word_embeddings = true;
    config.num_experts = 6;
  } else if (family == Family::kGlm4Moe) {
    config.qkv_bias = true;
    config.qk_norm = QkNorm::kHead;
    config.rotary_dim = 6;
    config.router_score = RouterScore::kSigmoid;
    config.router_scale = 1.5f;
    config.shared_gated = false;
    config.shared_intermediate_size = 29;
    config.dense_intermediate_size = 33;
    config.sparse = {0, 1, 1};
    config.num_experts = 6;
  } else if (family == Family::kOlmoe) {
    config.qk_norm = QkNorm::kWhole;
    config.clip_qkv = 1.5f;
    config.norm_topk_prob = false;
    config.num_experts = 6;
  } else {
    config.sliding_window = 9;
  }
  return config;
}

// Owns the bytes that its RawModel views.
class SyntheticModel {
 public:
  SyntheticModel(const ModelConfig& config, uint32_t seed) : seed_(seed) {
    raw.config = config;
    const int64_t hidden = config.hidden_size, q = config.num_heads * config.head_dim;
    const int64_t kv = config.num_kv_heads * config.head_dim;
    const RawMatrix embedding = matrix(config.vocab_size, hidden, 1.0f);
    raw.embedding = Tensor(embedding.data, config.dtype, {config.vocab_size, hidden});
    raw.lm_head = config.tie_word_embeddings ? embedding : matrix(config.vocab_size, hidden, 0.5f);
    raw.final_norm = norm(hidden);
    for (int64_t index = 0; index < config.num_layers; ++index) {
      RawLayer layer;
      layer.input_norm = norm(hidden);
      layer.post_norm = norm(hidden);
      layer.q = matrix(q, hidden, 0.3f);
      layer.k = matrix(kv, hidden, 0.3f);
      layer.v = matrix(kv, hidden, 0.3f);
      layer.o = matrix(hidden, q, 0.2f);
      if (config.qkv_bias) {
        layer.q_bias = vector(q, 0.5f, 0.0f);
        layer.k_bias = vector(kv, 0.5f, 0.0f);
        layer.v_bias = vector(kv, 0.5f, 0.0f);
      }
      if (config.qk_norm != QkNorm::kNone) {
        layer.q_norm = norm(config.qk_norm_width(q));
        layer.k_norm = norm(config.qk_norm_width(kv));
      }
      if (config.sparse[static_cast<size_t>(index)] != 0) {
        layer.router = matrix(config.num_experts, hidden, 0.4f);
        if (config.router_score == RouterScore::kSigmoid)
          layer.router_bias = vector(config.num_experts, 0.2f, 0.0f);
        for (int64_t expert = 0; expert < config.num_experts; ++expert) {
          layer.experts.push_back(ffn(config.expert_intermediate_size));
        }
        if (config.shared_intermediate_size > 0) {
          layer.shared = ffn(config.shared_intermediate_size);
          if (config.shared_gated) layer.shared_gate = matrix(1, hidden, 0.3f);
        }
      } else {
        layer.dense = ffn(config.dense_intermediate_size);
      }
      raw.layers.push_back(std::move(layer));
    }
  }

  RawModel raw;

 private:
  const void* fill(int64_t count, float scale, float centre) {
    const uint32_t tensor = static_cast<uint32_t>(storage_.size());
    storage_.emplace_back(static_cast<size_t>(count) * dtype_size(raw.config.dtype));
    uint8_t* bytes = storage_.back().data();
    for (int64_t i = 0; i < count; ++i) {
      const auto word = philox({static_cast<uint32_t>(i), tensor, 0, 0}, seed_);
      const float value = centre + scale * static_cast<float>(philox_normal(word[0], word[1]));
      if (raw.config.dtype == DType::kF32) {
        reinterpret_cast<float*>(bytes)[i] = value;
      } else {
        reinterpret_cast<uint16_t*>(bytes)[i] =
            raw.config.dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
      }
    }
    return bytes;
  }
  RawMatrix matrix(int64_t n, int64_t k, float scale) {
    return {fill(n * k, scale, 0.0f), raw.config.dtype, n, k, k, 1};
  }
  Tensor vector(int64_t size, float scale, float centre) {
    return Tensor(fill(size, scale, centre), raw.config.dtype, {size});
  }
  Tensor norm(int64_t size) { return vector(size, 0.1f, 1.0f); }
  RawFfn ffn(int64_t width) {
    const int64_t hidden = raw.config.hidden_size;
    return {matrix(width, hidden, 0.3f), matrix(width, hidden, 0.3f), matrix(hidden, width, 0.3f)};
  }

  uint64_t seed_;
  std::deque<std::vector<uint8_t>> storage_;
};

// A plan with random kept sets; dense: plus noise on a share of the entries, W_RM apart from W_EM.
inline ExpertPlan random_plan(const ModelConfig& config, int32_t kept, int32_t groups, RouterSpace space,
                              bool dense, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 0.15f);
  ExpertPlan plan;
  plan.top_k = static_cast<int32_t>(config.top_k);
  plan.router_space = space;
  const int32_t experts = static_cast<int32_t>(config.num_experts);
  for (auto& layers : split_layers(config.sparse, groups)) {
    std::vector<int32_t> all(static_cast<size_t>(experts));
    for (int32_t expert = 0; expert < experts; ++expert) all[static_cast<size_t>(expert)] = expert;
    std::shuffle(all.begin(), all.end(), generator);
    all.resize(static_cast<size_t>(kept));
    PlanGroup group = one_hot_group(layers, all, experts);
    if (dense) {
      for (auto* values : {&group.router_mapping, &group.expert_merging}) {
        for (float& value : *values) {
          if (generator() % 3 == 0) value += normal(generator);
        }
      }
    }
    plan.groups.push_back(std::move(group));
  }
  return plan;
}

inline std::vector<int32_t> random_tokens(const ModelConfig& config, size_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(generator() % static_cast<uint32_t>(config.vocab_size)));
  }
  return tokens;
}

}  // namespace eep::test
