// What a model's dimensions say without its weights.
#include "engine/config.h"

#include <algorithm>

namespace eep {

const char* family_name(Family family) {
  switch (family) {
    case Family::kMixtral:
      return "mixtral";
    case Family::kQwen2Moe:
      return "qwen2_moe";
    case Family::kQwen3Moe:
      return "qwen3_moe";
  }
  return "?";
}

ParameterCounts count_parameters(const ModelConfig& config, int64_t kept, int64_t top_k) {
  if (kept < 0) kept = config.num_experts;
  if (top_k < 0) top_k = config.top_k;
  const int64_t hidden = config.hidden_size, q = config.num_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  const int64_t expert = 3 * hidden * config.expert_intermediate_size;
  ParameterCounts counts;
  counts.total = config.vocab_size * hidden * (config.tie_word_embeddings ? 1 : 2) + hidden;
  for (uint8_t sparse : config.sparse) {
    counts.total += 2 * hidden + 2 * hidden * q + 2 * hidden * kv;
    if (config.qkv_bias) counts.total += q + 2 * kv;
    if (config.qk_norm) counts.total += 2 * config.head_dim;
    if (sparse == 0) {
      counts.total += 3 * hidden * config.dense_intermediate_size;
      continue;
    }
    counts.total += kept * hidden + kept * expert;
    counts.experts += kept * expert;
    if (config.shared_intermediate_size > 0)
      counts.total += 3 * hidden * config.shared_intermediate_size + hidden;
  }
  counts.active = counts.total - counts.experts + config.sparse_layers() * std::min(kept, top_k) * expert;
  return counts;
}

}  // namespace eep
