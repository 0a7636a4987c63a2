// ModelConfig: every dimension and family flag of a model, as the engine needs them. Filled by
// loaders/checkpoint from config.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/common/tensor.h"
#include "kernels/rope.h"
#include "kernels/router.h"

namespace eep {

enum class Family : uint8_t { kMixtral, kQwen2Moe, kQwen3Moe, kOlmoe, kGlm4Moe, kGptOss };
inline constexpr Family kFamilies[] = {Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe,
                                       Family::kOlmoe,   Family::kGlm4Moe,  Family::kGptOss};

const char* family_name(Family family);  // as config.json spells it: "mixtral", "qwen2_moe", ...

// What the RMS norm of q and of k goes over: nothing, each head, or the whole projection of a row.
enum class QkNorm : uint8_t { kNone, kHead, kWhole };

// Where other code rounds and this one does not, by default. kHf: router logits and weights to the gate's
// dtype (router.h), as transformers does for a 16-bit checkpoint. kEep: that, a W_RM on probabilities to the
// gate's dtype, and merged experts rounded after each product and sum (expert_merge.h), as the code released
// with the paper does.
enum class Parity { kNone, kHf, kEep };

// Matrices of E4M3 numbers with a scale a block; quantization_config of config.json.
struct Fp8Blocks {
  bool there = false;
  int64_t rows = 0, columns = 0;  // of a block; 0: one scale a matrix
  bool names_experts = false;     // single experts are listed as not in 8 bits
};

inline constexpr int64_t kMxfp4Block = 32;  // columns that share a scale

struct ModelConfig {
  Family family = Family::kMixtral;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  int64_t sliding_window = 0;     // 0: none
  std::vector<uint8_t> windowed;  // [num_layers] 1: the layer has the window; empty: all have
  float rms_norm_eps = 0;
  double rope_theta = 0;
  int64_t rotary_dim = 0;  // leading elements of a head that turn; 0: all
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool sinks = false;  // one more logit of a head's softmax (attention.h)
  QkNorm qk_norm = QkNorm::kNone;
  float clip_qkv = 0;  // q, k and v are held within +-clip_qkv, after the norm; 0: they are not

  int64_t num_experts = 0;
  int64_t top_k = 0;
  int64_t expert_intermediate_size = 0;
  int64_t shared_intermediate_size = 0;  // 0: no shared expert
  int64_t dense_intermediate_size = 0;   // layers without experts
  bool norm_topk_prob = true;
  RouterScore router_score = RouterScore::kSoftmax;
  bool router_bias = false;   // of the logits; with softmax scores
  float router_scale = 1;     // of the weights; with sigmoid scores
  int64_t router_groups = 1;  // of experts, of which router_top_groups are chosen from; with sigmoid scores
  int64_t router_top_groups = 1;
  bool expert_bias = false;  // of gate, up and down of the routed experts
  float expert_limit = 0;    // of their gate and up, 0: none (expert_ffn.h)
  float expert_alpha = 1;
  bool shared_gated = true;     // the shared expert counts by a sigmoid of its own gate, else whole
  std::vector<uint8_t> sparse;  // [num_layers] 1: mixture of experts, 0: dense FFN
  // [num_layers] where layers hold different numbers of experts, num_experts being the largest; else empty.
  std::vector<int64_t> experts_per_layer;

  DType dtype = DType::kBF16;     // of the checkpoint's matrices, of the values of those in 8 bits too
  Fp8Blocks fp8;                  // how matrices in 8 bits are stored, where there are any
  bool mxfp4 = false;             // experts are E2M1 numbers with an E8M0 scale for 32 columns
  Parity parity = Parity::kNone;  // not in config.json
  std::vector<int32_t> eos_token_ids;
  int32_t bos_token_id = -1;

  bool stored_in_codes() const { return fp8.there || mxfp4; }
  // Whether a layer's router has a vector of its own (RawLayer::router_bias).
  bool has_router_bias() const { return router_bias || router_score == RouterScore::kSigmoid; }
  int64_t window_of(int64_t layer) const {
    return windowed.empty() || windowed[static_cast<size_t>(layer)] != 0 ? sliding_window : 0;
  }
  int64_t rotary() const { return rotary_dim > 0 ? rotary_dim : head_dim; }
  int64_t q_rows() const { return num_heads * head_dim; }      // of the projection
  int64_t kv_rows() const { return num_kv_heads * head_dim; }  // of each of the two
  // Weights of the norm of a projection with so many rows.
  int64_t qk_norm_width(int64_t rows) const {
    return qk_norm == QkNorm::kNone ? 0 : qk_norm == QkNorm::kHead ? head_dim : rows;
  }

  int64_t sparse_layers() const {
    int64_t count = 0;
    for (uint8_t flag : sparse) count += flag;
    return count;
  }
};

// Neighbouring layers: those of one stage (stages.h).
struct LayerRange {
  int64_t begin = 0, end = 0;

  bool has(int64_t layer) const { return begin <= layer && layer < end; }
  int64_t size() const { return end - begin; }
  bool operator==(const LayerRange&) const = default;
};
inline LayerRange all_layers(const ModelConfig& config) { return {0, config.num_layers}; }

struct ParameterCounts {
  int64_t total = 0;
  int64_t active = 0;   // touched by one token, embeddings included
  int64_t experts = 0;  // routed experts
};

// With `kept` experts and `top_k` active in every sparse layer; -1: the model's own.
ParameterCounts count_parameters(const ModelConfig& config, int64_t kept = -1, int64_t top_k = -1);

}  // namespace eep
