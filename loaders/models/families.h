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
  const char* bias_key = nullptr;          // q, k, v have biases unless it is false; null: biases are refused
  double rope_theta = 1e4;                 // where the file has none
  double rms_norm_eps = 1e-6;
  bool sliding_window = false;  // read; else refused
  bool renormalises = false;    // always; else norm_topk_prob, false where the file has none
  bool dense_layers = true;     // decoder_sparse_step and mlp_only_layers are read
  QkNorm qk_norm = QkNorm::kNone;
  bool clips_qkv = false;  // clip_qkv is read

  // Tensors below model.layers.N. Experts are also read under the default names.
  const char* mlp = "mlp.";
  const char* gate = "gate_proj.weight";
  const char* up = "up_proj.weight";
  const char* down = "down_proj.weight";

  // GGUF: rows of q and k lie in pairs; what llama.cpp's norm_topk_prob is.
  bool gguf_pairs = false;
  bool gguf_renormalises = false;
};

// In the order of the enum.
std::span<const FamilyRow> families();
const FamilyRow& family_row(Family family);

}  // namespace eep
