// config.json of a source model with other counts: the text itself is edited, so that key order, unknown keys
// and the spelling of numbers stay as they were.
#pragma once

#include <cstdint>
#include <string>

namespace eep {

// The text with the number of a key replaced at the top level and in the text model's own configuration that
// multimodal wrappers hold (text_config, ...). The key is left alone where it is absent. `text` must be valid
// JSON.
std::string with_config_number(const std::string& text, const std::string& key, int64_t value);

// The text without a top-level key and its value.
std::string without_config_key(const std::string& text, const std::string& key);

// Both counts in whichever spelling the source has (num_local_experts, num_experts, num_experts_per_tok), in its
// text_config too.
std::string with_expert_counts(const std::string& text, int64_t experts, int64_t top_k);

}  // namespace eep
