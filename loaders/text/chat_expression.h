// Expressions of chat templates: the value of a tree of chat_syntax.h, as Jinja in the environment of
// transformers gives it, or a refusal: of what Jinja refuses (a member of an undefined value, a sum of a text
// and a number) and of what is not implemented.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "loaders/text/chat_syntax.h"
#include "loaders/text/chat_value.h"

namespace eep {

// Variables, innermost scope last. A name that is not there is undefined.
class ChatScopes {
 public:
  ChatScopes() : scopes_(1) {}
  const ChatValue* find(const std::string& name) const;
  void set(const std::string& name, ChatValue value) { scopes_.back()[name] = std::move(value); }
  void push() { scopes_.emplace_back(); }
  void pop() { scopes_.pop_back(); }
  size_t depth() const { return scopes_.size(); }
  // A macro sees the outermost scope and its own.
  std::vector<std::map<std::string, ChatValue>> enter();
  void leave(std::vector<std::map<std::string, ChatValue>> others);

 private:
  std::vector<std::map<std::string, ChatValue>> scopes_;
};

struct ChatArguments {
  std::vector<ChatValue> values;
  std::vector<std::pair<std::string, ChatValue>> named;
};

class ChatEvaluator {
 public:
  explicit ChatEvaluator(ChatBudget* budget) : budget_(*budget) {}

  ChatValue evaluate(const ChatNode& node);
  ChatScopes& scopes() { return scopes_; }
  ChatBudget& budget() { return budget_; }
  // Runs a macro; set by who runs statements.
  std::function<ChatValue(const ChatValue& macro, const ChatArguments& arguments)> call_macro;

  // By the name of a row of chat_filters.cpp.
  ChatValue filter(const std::string& name, const ChatValue& value, const ChatArguments& arguments);
  bool test(const std::string& name, const ChatValue& value, const std::vector<ChatValue>& arguments);

  static bool contains(const ChatValue& whole, const ChatValue& part);
  // What a dot finds: a member of a mapping, a namespace or a loop; undefined where there is none.
  static ChatValue member(const ChatValue& value, const std::string& name);
  static ChatValue element(const ChatValue& value, const ChatValue& index);

 private:
  ChatValue binary(const std::string& sign, const ChatValue& a, const ChatValue& b);
  ChatValue compare(const ChatNode& node);
  ChatValue slice(const ChatNode& node);
  ChatValue call(const ChatNode& node);
  ChatArguments arguments(const ChatNode& node);
  ChatValue text(std::string value);

  ChatBudget& budget_;
  ChatScopes scopes_;
};

}  // namespace eep
