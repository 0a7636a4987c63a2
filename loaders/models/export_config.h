// config.json of a source model with other counts: the text itself is edited, so that key order, unknown keys
// and the spelling of numbers stay as they were.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace eep {

// The text with the number of a key replaced at the top level and in the text model's own configuration that
// multimodal wrappers hold (text_config, ...). The key is left alone where it is absent. `text` must be valid
// JSON.
std::string with_config_number(const std::string& text, const std::string& key, int64_t value);

// The text without a top-level key and its value.
std::string without_config_key(const std::string& text, const std::string& key);

// Both counts in whichever spelling the source has (num_local_experts, num_experts, num_experts_per_tok), in
// its text_config too.
std::string with_expert_counts(const std::string& text, int64_t experts, int64_t top_k);

// The counts of a plan whose layers differ, under the keys of programs that read them: per_layer_num_experts
// and original_num_experts (RCO), num_experts_per_layer (EvoESAP). counts: [layers]; of a dense layer, where
// sparse is 0, it is the source's number. Where all sparse layers hold the same, the usual keys say so too.
std::string with_layer_counts(const std::string& text, const std::vector<uint8_t>& sparse,
                              const std::vector<int64_t>& counts, int64_t original, int64_t top_k);

}  // namespace eep
