// Added tokens: strings that are cut out of a text before BPE, such as <|im_start|>. Matching is
// leftmost-longest; the flags are those of tokenizer.json.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace eep {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the blanks before it
  bool rstrip = false;       // takes the blanks after it
  bool normalized = false;   // matched in normalised text
  bool special = false;
};

class AddedTokenMatcher {
 public:
  AddedTokenMatcher() : nodes_(1) {}

  // pattern: the content, normalised if the token is.
  void add(const AddedToken& token, std::string_view pattern);
  bool empty() const { return tokens_.empty(); }

  // Calls text_part for the stretches between tokens (never empty) and token for the tokens, in order.
  // text_part gets the offset of its stretch.
  void split(std::string_view text, const std::function<void(std::string_view, size_t)>& text_part,
             const std::function<void(int32_t)>& token) const;

 private:
  // The longest token at `at`: its index and length, or -1.
  int32_t match(std::string_view text, size_t at, size_t& length) const;

  struct Node {
    int32_t token = -1;                               // that ends here, index of tokens_
    std::vector<std::pair<char, uint32_t>> children;  // by the next byte
  };

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<uint32_t, 256> roots_{};  // node of each first byte, 0: none
};

}  // namespace eep
