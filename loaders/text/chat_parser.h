// What the parsers of expressions and of statements of a chat template share: the tokens that they read, how
// deep they are, and expressions.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/text/chat_lexer.h"
#include "loaders/text/chat_syntax.h"

namespace eep {

class ChatTokens {
 public:
  explicit ChatTokens(const std::string& text) : tokens_(chat_tokens(text)) {}

  const ChatToken& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  ChatToken take() {
    const ChatToken token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is(ChatTokenKind kind, std::string_view text) const {
    return peek().kind == kind && peek().text == text;
  }
  bool sign(std::string_view text) const { return is(ChatTokenKind::kSign, text); }
  bool word(std::string_view text) const { return is(ChatTokenKind::kName, text); }
  bool accept(ChatTokenKind kind, std::string_view text) {
    if (!is(kind, text)) return false;
    take();
    return true;
  }
  bool accept_sign(std::string_view text) { return accept(ChatTokenKind::kSign, text); }
  bool accept_word(std::string_view text) { return accept(ChatTokenKind::kName, text); }
  void expect_sign(std::string_view text) {
    if (!accept_sign(text)) unexpected(std::string(text));
  }
  void expect_end(ChatTokenKind kind) {
    if (peek().kind != kind) unexpected("the end of the tag");
    take();
  }
  std::string name() {
    if (peek().kind != ChatTokenKind::kName) unexpected("a name");
    return take().text;
  }
  [[noreturn]] void unexpected(const std::string& wanted) const {
    const ChatToken& token = peek();
    const bool shown = token.kind == ChatTokenKind::kName || token.kind == ChatTokenKind::kNumber ||
                       token.kind == ChatTokenKind::kText || token.kind == ChatTokenKind::kSign;
    refuse_chat("expected " + wanted + ", got " + (shown ? printable(token.text) : "the end of the tag"));
  }

 private:
  std::vector<ChatToken> tokens_;
  size_t at_ = 0;
};

// One level of nesting, for as long as it lives.
class ChatLevel {
 public:
  explicit ChatLevel(int* depth) : depth_(depth) {
    constexpr int kMaxDepth = 240;  // of calls of the parsers
    if (++*depth_ > kMaxDepth) refuse_chat("nested too deep");
  }
  ~ChatLevel() { --*depth_; }
  ChatLevel(const ChatLevel&) = delete;
  ChatLevel& operator=(const ChatLevel&) = delete;

 private:
  int* depth_;
};

// Jinja's order of binding: or, and, not, comparisons, + -, ~, * / // %, **, signs, members, filters.
class ChatExpressions {
 public:
  ChatExpressions(ChatTokens* tokens, int* depth) : tokens_(tokens), depth_(depth) {}

  // Perhaps several with commas between them: a tuple. conditions: with `if` and `else`. of_loop: the word
  // recursive ends it.
  ChatNode tuple(bool conditions, bool of_loop = false);
  ChatNode expression();
  // Of the text of a block, which is kChatBody: the filters behind their signs |, the first one of a filter
  // block without it.
  ChatNode filters(bool filter_block);

 private:
  ChatTokens* tokens_;
  int* depth_;
};

}  // namespace eep
