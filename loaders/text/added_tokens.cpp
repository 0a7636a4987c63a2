#include "loaders/text/added_tokens.h"

#include "loaders/formats/unicode.h"

namespace eep {

namespace {

size_t previous_character(std::string_view text, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
  return at;
}

bool word_at(std::string_view text, size_t at) {
  return at < text.size() && is_word_character(decode_utf8(text, at).value);
}

}  // namespace

void AddedTokenMatcher::add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  uint32_t node = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const auto byte = static_cast<unsigned char>(pattern[i]);
    uint32_t next = 0;
    if (i == 0) {
      next = roots_[byte];
    } else {
      for (const auto& [key, child] : nodes_[node].children) next = key == pattern[i] ? child : next;
    }
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      if (i == 0) {
        roots_[byte] = next;
      } else {
        nodes_[node].children.emplace_back(pattern[i], next);
      }
    }
    node = next;
  }
  if (nodes_[node].token >= 0) return;
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

int32_t AddedTokenMatcher::match(std::string_view text, size_t at, size_t& length) const {
  int32_t longest = -1;
  uint32_t node = roots_[static_cast<unsigned char>(text[at])];
  for (size_t end = at + 1; node != 0; ++end) {
    if (nodes_[node].token >= 0) {
      longest = nodes_[node].token;
      length = end - at;
    }
    if (end == text.size()) break;
    uint32_t next = 0;
    for (const auto& [key, child] : nodes_[node].children) {
      if (key == text[end]) next = child;
    }
    node = next;
  }
  return longest;
}

void AddedTokenMatcher::split(std::string_view text,
                              const std::function<void(std::string_view, size_t)>& text_part,
                              const std::function<void(int32_t)>& token) const {
  size_t done = 0;    // everything before was given out
  size_t blanks = 0;  // the end of the blanks seen last
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    size_t length = 0;
    const int32_t index = match(text, at, length);
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& found = tokens_[static_cast<size_t>(index)];
    size_t begin = at, end = at + length;
    at = end;
    const bool word_before = begin > 0 && word_at(text, previous_character(text, begin));
    if (found.single_word && (word_before || word_at(text, end))) continue;
    if (found.lstrip) {  // not into what the token before it took
      while (begin > done) {
        const size_t before = previous_character(text, begin);
        if (classify(decode_utf8(text, before).value) != CharClass::kSpace) break;
        begin = before;
      }
    }
    if (found.rstrip) {
      if (end < blanks) end = blanks;
      while (end < text.size() && classify(decode_utf8(text, end).value) == CharClass::kSpace) {
        end += decode_utf8(text, end).bytes;
      }
      blanks = end;
    }
    if (done < begin) text_part(text.substr(done, begin - done), done);
    token(found.id);
    done = end;
  }
  if (done < text.size()) text_part(text.substr(done), done);
}

}  // namespace eep
