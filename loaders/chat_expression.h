// Expressions of chat templates: the part of Jinja that templates of released models use. Literals, names,
// members, indices and slices, + - ~ * // %, comparisons, in, is (not) defined / none / string / mapping,
// and, or, not, x if y else z, lists; filters trim, length, join, tojson, first, last, upper, lower, default,
// replace, string; methods strip, lstrip, rstrip, startswith, endswith, split, replace, upper, lower, get;
// raise_exception, namespace, range. Anything else is refused by its name, and so is what Jinja refuses: a
// member of an undefined value, a sum of a text and a number.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/json.h"

namespace eep {

// Variables, innermost scope last. A name that is not there is undefined.
class ChatScopes {
 public:
  ChatScopes() : scopes_(1) {}
  const Json* find(const std::string& name) const;
  void set(const std::string& name, Json value) { scopes_.back()[name] = std::move(value); }
  void set_member(const std::string& name, const std::string& member, Json value);  // of a namespace
  void push() { scopes_.emplace_back(); }
  void pop() { scopes_.pop_back(); }

 private:
  std::vector<std::map<std::string, Json>> scopes_;
};

// Work left to a template: hostile ones end.
struct ChatBudget {
  int64_t steps = 1000000;
  void take(int64_t count) {
    steps -= count;
    if (steps < 0) throw Error(ExitCode::kData, "chat template", "does too much work");
  }
};

// Throws Error(kData) naming what is not understood, or with the text of raise_exception.
Json evaluate_chat_expression(std::string_view text, const ChatScopes& scopes, ChatBudget& budget);

bool chat_truth(const Json& value);
std::string chat_text(const Json& value);

}  // namespace eep
