#include "loaders/models/export_config.h"

#include <string_view>

namespace eep {

namespace {

// The end of the string that begins at `quote`.
size_t string_end(std::string_view text, size_t quote) {
  size_t at = quote + 1;
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  return at + 1;
}

size_t skip_blanks(std::string_view text, size_t at) {
  const size_t found = text.find_first_not_of(" \t\r\n", at);
  return found == std::string_view::npos ? text.size() : found;
}

}  // namespace

std::string with_config_number(const std::string& text, const std::string& key, int64_t value) {
  const std::string quoted = '"' + key + '"';
  int depth = 0;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c != '"') {
      depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
      ++at;
      continue;
    }
    const size_t end = string_end(text, at);
    const size_t colon = skip_blanks(text, end);
    if (depth == 1 && colon < text.size() && text[colon] == ':' && text.compare(at, end - at, quoted) == 0) {
      const size_t number = skip_blanks(text, colon + 1);
      const size_t after = text.find_first_of(",} \t\r\n", number);
      return text.substr(0, number) + std::to_string(value) + text.substr(after);
    }
    at = end;
  }
  return text;
}

std::string with_expert_counts(const std::string& text, int64_t experts, int64_t top_k) {
  std::string edited = text;
  for (const char* key : {"num_local_experts", "num_experts"}) {
    edited = with_config_number(edited, key, experts);
  }
  return with_config_number(edited, "num_experts_per_tok", top_k);
}

}  // namespace eep
