#include "loaders/models/families.h"

#include <array>

namespace eep {

std::span<const FamilyRow> families() {
  static constexpr std::array kRows{
      FamilyRow{.family = Family::kMixtral,
                .architecture = "MixtralForCausalLM",
                .gguf = "llama",
                .experts_key = "num_local_experts",
                .expert_width_key = "intermediate_size",
                .rope_theta = 1e6,
                .rms_norm_eps = 1e-5,
                .sliding_window = true,
                .renormalises = true,
                .dense_layers = false,
                .mlp = "block_sparse_moe.",
                .gate = "w1.weight",
                .up = "w3.weight",
                .down = "w2.weight",
                .gguf_pairs = true},
      FamilyRow{.family = Family::kQwen2Moe,
                .architecture = "Qwen2MoeForCausalLM",
                .gguf = "qwen2moe",
                .shared_width_key = "shared_expert_intermediate_size",
                .bias_key = "qkv_bias"},
      FamilyRow{.family = Family::kQwen3Moe,
                .architecture = "Qwen3MoeForCausalLM",
                .gguf = "qwen3moe",
                .qk_norm = QkNorm::kHead,
                .gguf_renormalises = true},
      FamilyRow{.family = Family::kOlmoe,
                .architecture = "OlmoeForCausalLM",
                .gguf = "olmoe",
                .expert_width_key = "intermediate_size",
                .rms_norm_eps = 1e-5,
                .unsaid_eos = 50279,
                .dense_layers = false,
                .qk_norm = QkNorm::kWhole,
                .clips_qkv = true},
      FamilyRow{.family = Family::kGlm4Moe,
                .architecture = "Glm4MoeForCausalLM",
                .experts_key = "n_routed_experts",
                .shared_count_key = "n_shared_experts",
                .bias_key = "attention_bias",
                .bias = false,
                .rms_norm_eps = 1e-5,
                .norm_topk_prob = true,
                .score = RouterScore::kSigmoid,
                .partial_rotary = 0.5,
                .first_dense = true,
                .qk_norm_key = "use_qk_norm",
                .dense_layers = false,
                .qk_norm = QkNorm::kHead,
                .shared = "shared_experts."},
  };
  return kRows;
}

const FamilyRow& family_row(Family family) { return families()[static_cast<size_t>(family)]; }

}  // namespace eep
