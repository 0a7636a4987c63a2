// Expressions of chat templates: the value of a tree of chat_syntax.h, as Jinja in the environment of
// transformers gives it, or a refusal: of what Jinja refuses (a member of an undefined value, a sum of a text
// and a number) and of what is not implemented.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loaders/text/chat_syntax.h"
#include "loaders/text/chat_value.h"

namespace eep {

// Variables. A name that is not there is undefined.
class ChatScopes {
 public:
  struct Scope {
    std::map<std::string, ChatValue> variables;
    const Scope* outer;  // where names are looked for next
  };

  ChatScopes() { push(nullptr); }
  const ChatValue* find(const std::string& name) const;
  void set(const std::string& name, ChatValue value) { scopes_.back()->variables[name] = std::move(value); }
  void push() { push(place()); }
  // The scope of a macro, the body of a call block or a level of a recursive loop sees what the place where
  // it was written sees, which is still there.
  void push(const Scope* outer) { scopes_.push_back(std::make_unique<Scope>(Scope{{}, outer})); }
  void pop() { scopes_.pop_back(); }
  const Scope* place() const { return scopes_.back().get(); }
  size_t depth() const { return scopes_.size(); }

 private:
  std::vector<std::unique_ptr<Scope>> scopes_;
};

struct ChatArguments {
  std::vector<ChatValue> values;
  std::vector<std::pair<std::string, ChatValue>> named;
};

class ChatEvaluator {
 public:
  explicit ChatEvaluator(ChatBudget* budget) : budget_(*budget) {}

  ChatValue evaluate(const ChatNode& node);
  // caller: given as an argument of that name besides those of the call; null for none.
  ChatValue call(const ChatNode& node, const ChatValue* caller = nullptr);
  ChatScopes& scopes() { return scopes_; }
  ChatBudget& budget() { return budget_; }
  // Runs a macro, the body of a call block or a level of a recursive loop; set by who runs statements.
  std::function<ChatValue(const ChatValue& function, const ChatArguments& arguments)> call_own;

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
  ChatArguments arguments(const ChatNode& node, const ChatValue* caller = nullptr);
  ChatValue text(std::string value);

  ChatBudget& budget_;
  ChatScopes scopes_;
};

}  // namespace eep
