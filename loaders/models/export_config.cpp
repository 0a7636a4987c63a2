#include "loaders/models/export_config.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

namespace eep {

namespace {

// The end of the string that begins at `quote`.
size_t string_end(std::string_view text, size_t quote) {
  size_t at = quote + 1;
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2u : 1u;
  return at + 1;
}

size_t skip_blanks(std::string_view text, size_t at) {
  const size_t found = text.find_first_not_of(" \t\r\n", at);
  return found == std::string_view::npos ? text.size() : found;
}

// The end of the value that begins at `at`.
size_t value_end(std::string_view text, size_t at) {
  if (text[at] == '"') return string_end(text, at);
  if (text[at] != '{' && text[at] != '[') return std::min(text.find_first_of(",}] \t\r\n", at), text.size());
  for (int depth = 0; at < text.size();) {
    if (text[at] == '"') {
      at = string_end(text, at);
      continue;
    }
    const char c = text[at++];
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (depth == 0) break;
  }
  return at;
}

struct Member {
  size_t key, value, end;  // where they begin, and where the value ends
};

// The member of the object that begins at `object`.
std::optional<Member> find_member(std::string_view text, size_t object, std::string_view key) {
  const std::string quoted = '"' + std::string(key) + '"';
  for (size_t at = skip_blanks(text, object + 1); at < text.size() && text[at] == '"';) {
    const size_t end = string_end(text, at);
    const size_t value = skip_blanks(text, skip_blanks(text, end) + 1);
    if (value >= text.size()) break;
    const Member member{at, value, value_end(text, value)};
    if (text.substr(at, end - at) == quoted) return member;
    at = skip_blanks(text, member.end);
    if (at < text.size() && text[at] == ',') at = skip_blanks(text, at + 1);
  }
  return std::nullopt;
}

// The key, in its quotes, of a text model's configuration inside a wrapper's.
bool is_text_config(std::string_view quoted) {
  return quoted == "\"text_config\"" || quoted == "\"llm_config\"" || quoted == "\"language_config\"" ||
         quoted == "\"thinker_config\"";
}

}  // namespace

std::string with_config_number(const std::string& text, const std::string& key, int64_t value) {
  const std::string quoted = '"' + key + '"';
  std::string out, owner;   // owner: the key whose value comes next
  std::vector<bool> holds;  // of each open bracket: whether it is a holder of counts
  size_t copied = 0;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c != '"') {
      if (c == '{') holds.push_back(holds.empty() || (holds.back() && is_text_config(owner)));
      if (c == '[') holds.push_back(false);
      if ((c == '}' || c == ']') && !holds.empty()) holds.pop_back();
      ++at;
      continue;
    }
    const size_t end = string_end(text, at), colon = skip_blanks(text, end);
    if (colon >= text.size() || text[colon] != ':') {
      at = end;
      continue;
    }
    owner = text.substr(at, end - at);
    at = colon + 1;
    if (holds.empty() || !holds.back() || owner != quoted) continue;
    const size_t number = skip_blanks(text, at);
    if (text.compare(number, 4, "null") == 0) continue;
    out += text.substr(copied, number - copied) + std::to_string(value);
    at = copied = std::min(text.find_first_of(",} \t\r\n", number), text.size());
  }
  return out + text.substr(copied);
}

std::string without_config_key(const std::string& text, const std::string& key) {
  const std::optional<Member> member = find_member(text, skip_blanks(text, 0), key);
  if (!member) return text;
  const size_t next = skip_blanks(text, member->end);
  if (next < text.size() && text[next] == ',') {
    return text.substr(0, member->key) + text.substr(skip_blanks(text, next + 1));
  }
  size_t begin = text.find_last_not_of(" \t\r\n", member->key - 1);  // the comma before the last member
  if (text[begin] != ',') begin = member->key;
  return text.substr(0, begin) + text.substr(member->end);
}

namespace {

// gpt-oss has both keys.
std::string with_active_count(const std::string& text, int64_t top_k) {
  return with_config_number(with_config_number(text, "experts_per_token", top_k), "num_experts_per_tok",
                            top_k);
}

// A member of the top level, replaced where it is there, else added at the end in the text's own indentation.
std::string with_config_value(const std::string& text, const std::string& key, const std::string& value) {
  const size_t open = skip_blanks(text, 0), close = text.rfind('}');
  if (const std::optional<Member> member = find_member(text, open, key))
    return text.substr(0, member->value) + value + text.substr(member->end);
  const size_t last = text.find_last_not_of(" \t\r\n", close - 1), first = skip_blanks(text, open + 1);
  std::string between = text.substr(open + 1, first - open - 1);  // how the first member stands
  if (between.empty()) between = " ";
  return text.substr(0, last + 1) + (text[last] == '{' ? "" : ",") + between + '"' + key + "\": " + value +
         text.substr(last + 1);
}

}  // namespace

std::string with_layer_counts(const std::string& text, const std::vector<uint8_t>& sparse,
                              const std::vector<int64_t>& counts, int64_t original, int64_t top_k) {
  std::string list;
  int64_t same = -1;
  bool differ = false;
  for (size_t layer = 0; layer < counts.size(); ++layer) {
    list += (list.empty() ? "[" : ", ") + std::to_string(counts[layer]);
    if (sparse[layer] == 0) continue;
    differ = differ || (same >= 0 && counts[layer] != same);
    same = counts[layer];
  }
  std::string edited = differ ? with_active_count(text, top_k) : with_expert_counts(text, same, top_k);
  for (const char* key : {"per_layer_num_experts", "num_experts_per_layer"})
    edited = with_config_value(edited, key, list + "]");
  return with_config_value(edited, "original_num_experts", std::to_string(original));
}

std::string with_expert_counts(const std::string& text, int64_t experts, int64_t top_k) {
  std::string edited = text;
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"})
    edited = with_config_number(edited, key, experts);
  return with_active_count(edited, top_k);
}

}  // namespace eep
