// Counting what a configuration implies.
#include "engine/config.h"

namespace eep {

const char* family_name(Family family) {
  switch (family) {
    case Family::kMixtral:
      return "mixtral";
    case Family::kQwen2Moe:
      return "qwen2_moe";
    case Family::kQwen3Moe:
      return "qwen3_moe";
    case Family::kOlmoe:
      return "olmoe";
    case Family::kGlm4Moe:
      return "glm4_moe";
  }
  return "?";
}

ParameterCounts count_parameters(const ModelConfig& config, int64_t kept, int64_t top_k) {
  if (kept < 0) kept = config.num_experts;
  if (top_k < 0) top_k = config.top_k;
  if (top_k > kept) top_k = kept;
  const int64_t hidden = config.hidden_size;
  const int64_t q_rows = config.q_rows(), kv_rows = config.kv_rows();

  int64_t attention = hidden * (q_rows + 2 * kv_rows) + q_rows * hidden;
  if (config.qkv_bias) attention += q_rows + 2 * kv_rows;
  attention += config.qk_norm_width(q_rows) + config.qk_norm_width(kv_rows);
  const int64_t norms = 2 * hidden;
  const int64_t expert = 3 * hidden * config.expert_intermediate_size;
  const int64_t dense = 3 * hidden * config.dense_intermediate_size;
  const int64_t shared = config.shared_intermediate_size > 0 ? 3 * hidden * config.shared_intermediate_size +
                                                                   (config.shared_gated ? hidden : 0)
                                                             : 0;

  const int64_t bias = config.router_score == RouterScore::kSigmoid ? 1 : 0;
  const int64_t vocabulary = config.vocab_size * hidden * (config.tie_word_embeddings ? 1 : 2);
  const int64_t sparse = config.sparse_layers();
  const int64_t everywhere = vocabulary + hidden + config.num_layers * (attention + norms) +
                             (config.num_layers - sparse) * dense +
                             sparse * (kept * (hidden + bias) + shared);
  ParameterCounts counts;
  counts.experts = sparse * kept * expert;
  counts.total = everywhere + counts.experts;
  counts.active = everywhere + sparse * top_k * expert;
  return counts;
}

}  // namespace eep
