// families: what tells one family of models from another, a row each: keys and defaults of config.json as in
// transformers, names of tensors, norms. What several readers and writers ask stands here and nowhere else.
#pragma once

#include <span>
#include <string_view>

#include "engine/config.h"

namespace eep {

struct FamilyRow {
  Family family = Family::kMixtral;  // family_name() is its model_type
  const char* architecture = "";     // architectures[0] of config.json
  std::string_view gguf = "";        // general.architecture of a GGUF file

  // config.json. Both names of the number of experts are read; this one is written.
  const char* experts_key = "num_experts";
  const char* expert_width_key = "moe_intermediate_size";
  const char* shared_width_key = nullptr;  // null: no shared expert
  const char* shared_count_key = nullptr;  // so many experts' widths make one shared expert, without a gate
  const char* bias_key = nullptr;          // says whether q, k, v have biases; null: biases are refused
  bool bias = true;                        // where the file does not say
  double rope_theta = 1e4;                 // where the file has none
  double rms_norm_eps = 1e-6;
  int64_t unsaid_eos = -1;  // what transformers writes where nobody chose one: nothing beyond the vocabulary
  bool sliding_window = false;  // read; else refused
  bool layer_windows = false;   // layer_types says which layers have it, 128 positions where nothing is said
  bool rope_said = false;       // there is no default for the kind of rotary scaling
  int64_t head_dim = 0;         // where the file has none; 0: hidden_size over heads
  bool sinks = false;
  bool o_bias = false;          // of attention's output where those of q, k, v are
  bool renormalises = false;    // always; else norm_topk_prob
  bool norm_topk_prob = false;  // where the file has none
  RouterScore score =
      RouterScore::kSoftmax;          // kSigmoid: its bias, n_group, topk_group and routed_scaling_factor
  double partial_rotary = 1;          // partial_rotary_factor where the file has none; 1: no other is read
  bool first_dense = false;           // first_k_dense_replace is read, 1 where the file has none
  const char* qk_norm_key = nullptr;  // says whether there is a qk_norm; null: there is
  bool dense_layers = true;           // decoder_sparse_step and mlp_only_layers are read
  QkNorm qk_norm = QkNorm::kNone;
  bool clips_qkv = false;  // clip_qkv is read

  // Experts: biases of all three products, (up + 1) * gate * sigmoid(swiglu_alpha * gate) within
  // swiglu_limit; and fused tensors [experts, in, out] (of MXFP4 [experts, out, in / 32, 16]) of which every
  // second column is up's.
  bool gpt_oss_experts = false;

  // Tensors below model.layers.N. Experts are also read under the default names.
  const char* mlp = "mlp.";
  const char* router = "gate.weight";
  const char* router_bias = nullptr;  // of the scores in the choice with sigmoid scores, else of the logits
  const char* gate = "gate_proj.weight";
  const char* up = "up_proj.weight";
  const char* down = "down_proj.weight";
  const char* shared = "shared_expert.";

  // GGUF: rows of q and k lie in pairs; what llama.cpp's norm_topk_prob is.
  bool gguf_pairs = false;
  const char* gguf_post_norm = "ffn_norm";  // the norm before a layer's experts
  bool gguf_renormalises = false;
};

// In the order of the enum.
std::span<const FamilyRow> families();
const FamilyRow& family_row(Family family);

}  // namespace eep
