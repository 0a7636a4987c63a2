// A recursive descent that evaluates while it reads. What must not happen (the branch of a condition that is
// not taken) is read with alive_ = false; the value before an `if` is read first and forgotten if need be.
#include "loaders/text/chat_expression.h"

#include <algorithm>
#include <utility>

namespace eep {

namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxText = size_t{1} << 24;

[[noreturn]] void refuse(const std::string& what) { throw Error(ExitCode::kData, "chat template", what); }

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string strip(const std::string& text, bool left, bool right) {
  const char* blanks = " \t\r\n\f\v";
  const size_t begin = left ? text.find_first_not_of(blanks) : 0;
  if (begin == std::string::npos) return {};
  const size_t end = right ? text.find_last_not_of(blanks) + 1 : text.size();
  return end > begin ? text.substr(begin, end - begin) : std::string();
}

class Evaluator {
 public:
  Evaluator(std::string_view text, const ChatScopes& scopes, ChatBudget& budget)
      : text_(text), scopes_(scopes), budget_(budget) {}

  Json whole() {
    Json value = conditional();
    blanks();
    if (at_ != text_.size()) refuse("not understood: " + printable(text_.substr(at_)));
    if (!pending_.empty()) refuse(pending_);
    return value;
  }

 private:
  void raise(const std::string& what) {
    if (alive_ && pending_.empty()) pending_ = what;
  }
  void blanks() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos)
      ++at_;
  }
  bool accept(std::string_view sign) {
    blanks();
    if (text_.substr(at_, sign.size()) != sign) return false;
    at_ += sign.size();
    return true;
  }
  void expect(std::string_view sign) {
    if (!accept(sign)) refuse("expected " + std::string(sign) + " at " + printable(text_.substr(at_)));
  }
  std::string_view peek_name() {
    blanks();
    size_t end = at_;
    while (end < text_.size() && (is_name_start(text_[end]) || (end > at_ && is_digit(text_[end])))) ++end;
    return text_.substr(at_, end - at_);
  }
  bool accept_name(std::string_view name) {
    if (peek_name() != name) return false;
    at_ += name.size();
    return true;
  }
  std::string name() {
    const std::string_view found = peek_name();
    if (found.empty()) refuse("expected a name at " + printable(text_.substr(at_)));
    at_ += found.size();
    return std::string(found);
  }

  Json conditional() {
    if (++depth_ > kMaxDepth) refuse("expressions nested too deep");
    budget_.take(1);
    const std::string before = pending_;
    Json value = alternatives();
    if (accept_name("if")) {
      const std::string after = std::exchange(pending_, before);
      const bool truth = chat_truth(alternatives());
      if (truth && pending_.empty()) pending_ = after;
      Json other;
      if (accept_name("else")) {
        const bool alive = std::exchange(alive_, alive_ && !truth);
        other = conditional();
        alive_ = alive;
      }
      if (!truth) value = std::move(other);
    }
    --depth_;
    return value;
  }

  Json alternatives() {
    Json value = conjunction();
    while (accept_name("or")) {
      const bool truth = chat_truth(value);
      const bool alive = std::exchange(alive_, alive_ && !truth);
      Json other = conjunction();
      alive_ = alive;
      if (!truth) value = std::move(other);
    }
    return value;
  }

  Json conjunction() {
    Json value = negation();
    while (accept_name("and")) {
      const bool truth = chat_truth(value);
      const bool alive = std::exchange(alive_, alive_ && truth);
      Json other = negation();
      alive_ = alive;
      if (truth) value = std::move(other);
    }
    return value;
  }

  Json negation() {
    if (!accept_name("not")) return comparison();
    if (++depth_ > kMaxDepth) refuse("expressions nested too deep");
    Json value = !chat_truth(negation());
    --depth_;
    return value;
  }

  Json comparison() {
    Json left = sum();
    for (;;) {
      budget_.take(1);
      if (accept("==")) {
        left = left == sum();
      } else if (accept("!=")) {
        left = left != sum();
      } else if (accept("<=")) {
        left = number(left) <= number(sum());
      } else if (accept(">=")) {
        left = number(left) >= number(sum());
      } else if (accept("<")) {
        left = number(left) < number(sum());
      } else if (accept(">")) {
        left = number(left) > number(sum());
      } else if (accept_name("in")) {
        left = contains(sum(), left);
      } else if (accept_name("is")) {
        const bool inverse = accept_name("not");
        left = test(left, name()) != inverse;
      } else if (peek_name() == "not") {
        accept_name("not");
        if (!accept_name("in")) refuse("expected in after not");
        left = !contains(sum(), left);
      } else {
        return left;
      }
    }
  }

  static int64_t number(const Json& value) {
    if (value.is_boolean()) return value.get<bool>();
    if (!value.is_number_integer()) return 0;  // undefined, in a branch that is not taken
    return value.get<int64_t>();
  }
  static bool contains(const Json& whole, const Json& part) {
    if (whole.is_string()) {
      return part.is_string() &&
             whole.get_ref<const std::string&>().find(part.get<std::string>()) != std::string::npos;
    }
    if (whole.is_object()) return part.is_string() && whole.contains(part.get<std::string>());
    return whole.is_array() && std::find(whole.begin(), whole.end(), part) != whole.end();
  }
  static bool test(const Json& value, const std::string& name) {
    if (name == "defined") return !value.is_null();
    if (name == "none" || name == "undefined") return value.is_null();
    if (name == "string") return value.is_string();
    if (name == "mapping") return value.is_object();
    if (name == "iterable" || name == "sequence") return value.is_array() || value.is_string();
    if (name == "true") return value == true;
    if (name == "false") return value == false;
    refuse("test not known: is " + name);
  }

  Json sum() {
    Json value = product();
    for (;;) {
      if (accept("+")) {
        const Json other = product();
        if (value.is_number() && other.is_number()) {
          value = bounded(number(value) + number(other));
        } else if (value.is_array() && other.is_array()) {
          for (const Json& item : other) value.push_back(item);
        } else {
          value = joined(value, other);
        }
      } else if (accept("~")) {
        value = joined(value, product());
      } else if (accept("-")) {
        value = bounded(number(value) - number(product()));
      } else {
        return value;
      }
    }
  }
  // Numbers stay below 2^31, so that no step overflows.
  static int64_t bounded(int64_t value) {
    if (value > INT32_MAX || value < -INT32_MAX) refuse("number too large");
    return value;
  }
  Json joined(const Json& a, const Json& b) {
    std::string text = chat_text(a) + chat_text(b);
    if (text.size() > kMaxText) refuse("text too long");
    budget_.take(static_cast<int64_t>(text.size() / 64));
    return text;
  }

  Json product() {
    Json value = unary();
    for (;;) {
      const bool percent = accept("%");
      if (percent || accept("//")) {
        const int64_t divisor = number(unary());
        if (divisor == 0) {
          raise("division by zero");
          continue;
        }
        // Python's: towards minus infinity.
        const int64_t whole = number(value), rest = ((whole % divisor) + divisor) % divisor;
        value = percent ? rest : (whole - rest) / divisor;
      } else if (accept("*")) {
        value = bounded(number(value) * number(unary()));
      } else {
        return value;
      }
    }
  }

  Json unary() {
    if (!accept("-")) return postfix();
    return -number(postfix());
  }

  Json postfix() {
    Json value = primary();
    for (;;) {
      if (accept(".")) {
        const std::string member = name();
        value = accept("(") ? method(value, member) : member_of(value, member);
      } else if (accept("[")) {
        value = element(value);
      } else if (accept("|")) {
        value = filter(value, name());
      } else {
        return value;
      }
    }
  }

  static Json member_of(const Json& value, const std::string& member) {
    return value.is_object() && value.contains(member) ? value.at(member) : Json();
  }

  Json element(const Json& value) {
    Json first, second;
    bool slice = accept(":");
    if (!slice) first = conditional();
    if (slice || accept(":")) {
      slice = true;
      if (accept(":")) {  // [::-1]
        if (!accept("-1")) refuse("steps of slices not known (expected [::-1])");
        expect("]");
        Json reversed = value;
        if (value.is_array()) std::reverse(reversed.begin(), reversed.end());
        return reversed;
      }
      if (!accept("]")) {
        second = conditional();
        expect("]");
      }
    } else {
      expect("]");
    }
    if (!slice && first.is_string()) return member_of(value, first.get<std::string>());
    if (!value.is_array() && !value.is_string()) return {};
    const std::string text = value.is_string() ? value.get<std::string>() : std::string();
    const int64_t size = static_cast<int64_t>(value.is_string() ? text.size() : value.size());
    const auto place = [&](const Json& index, int64_t fallback) {
      if (index.is_null()) return fallback;
      const int64_t at = number(index);
      return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
    };
    if (!slice) {
      const int64_t asked = number(first), index = asked < 0 ? asked + size : asked;
      if (!value.is_array() || index < 0 || index >= size) return {};
      return value[static_cast<size_t>(index)];
    }
    const int64_t begin = place(first, 0), end = std::max(place(second, size), begin);
    if (value.is_string()) return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    Json part = Json::array();
    for (int64_t i = begin; i < end; ++i) part.push_back(value[static_cast<size_t>(i)]);
    return part;
  }

  std::vector<Json> arguments() {
    std::vector<Json> values;
    if (accept(")")) return values;
    do {
      values.push_back(conditional());
    } while (accept(","));
    expect(")");
    return values;
  }

  Json method(const Json& value, const std::string& member) {
    const std::vector<Json> given = arguments();
    const std::string text = value.is_string() ? value.get<std::string>() : std::string();
    const std::string argument = !given.empty() && given[0].is_string() ? given[0].get<std::string>() : "";
    if (given.empty() && member == "strip") return strip(text, true, true);
    if (given.empty() && member == "lstrip") return strip(text, true, false);
    if (given.empty() && member == "rstrip") return strip(text, false, true);
    if (given.size() == 1 && member == "startswith") return text.rfind(argument, 0) == 0;
    if (given.size() == 1 && member == "endswith") return text.ends_with(argument);
    if (given.size() == 1 && member == "split" && !argument.empty()) {
      Json parts = Json::array();
      size_t begin = 0;
      for (size_t end; (end = text.find(argument, begin)) != std::string::npos;
           begin = end + argument.size()) {
        parts.push_back(text.substr(begin, end - begin));
      }
      parts.push_back(text.substr(begin));
      return parts;
    }
    refuse("method not known: " + member);
  }

  Json filter(const Json& value, const std::string& name) {
    const std::vector<Json> given = accept("(") ? arguments() : std::vector<Json>();
    if (name == "trim") return strip(chat_text(value), true, true);
    if (name == "length" || name == "count")
      return value.is_string() ? value.get<std::string>().size() : value.size();
    if (name == "tojson") return value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (name == "first") return value.is_array() && !value.empty() ? value.front() : Json();
    if (name == "last") return value.is_array() && !value.empty() ? value.back() : Json();
    if (name == "default") return value.is_null() && !given.empty() ? given[0] : value;
    if (name == "upper" || name == "lower") {
      std::string text = chat_text(value);
      for (char& c : text) {
        if (name == "upper" && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
        if (name == "lower" && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
      }
      return text;
    }
    if (name == "join" && value.is_array()) {
      std::string text;
      for (const Json& item : value) {
        if (!text.empty() && !given.empty()) text += chat_text(given[0]);
        text += chat_text(item);
      }
      return text;
    }
    refuse("filter not known: " + name);
  }

  Json text_literal(char quote) {
    std::string text;
    for (++at_; at_ < text_.size() && text_[at_] != quote; ++at_) {
      if (text_[at_] != '\\' || at_ + 1 == text_.size()) {
        text += text_[at_];
        continue;
      }
      const char escaped = text_[++at_];
      text += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped == 'r' ? '\r' : escaped;
    }
    if (at_ == text_.size()) refuse("a text without its closing quote");
    ++at_;
    return text;
  }

  Json call(const std::string& function) {
    if (function == "namespace") {
      Json object = Json::object();
      if (accept(")")) return object;
      do {
        const std::string member = name();
        expect("=");
        object[member] = conditional();
      } while (accept(","));
      expect(")");
      return object;
    }
    const std::vector<Json> given = arguments();
    if (function == "raise_exception") {
      raise(given.empty() ? "refuses these messages" : printable(chat_text(given[0])));
      return {};
    }
    if (function == "range" && given.size() == 1) {
      Json list = Json::array();
      const int64_t count = number(given[0]);
      budget_.take(std::max<int64_t>(count, 0));
      for (int64_t i = 0; i < count; ++i) list.push_back(i);
      return list;
    }
    refuse("function not known: " + function);
  }

  Json primary() {
    budget_.take(1);
    blanks();
    const char next = at_ < text_.size() ? text_[at_] : '\0';
    if (next == '\'' || next == '"') return text_literal(next);
    if (is_digit(next)) {
      int64_t value = 0;
      for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) {
        value = value * 10 + (text_[at_] - '0');
        if (value > INT32_MAX) refuse("number too large");
      }
      return value;
    }
    if (accept("(")) {
      Json value = conditional();
      expect(")");
      return value;
    }
    if (accept("[")) {
      Json list = Json::array();
      if (accept("]")) return list;
      do {
        list.push_back(conditional());
      } while (accept(","));
      expect("]");
      return list;
    }
    const std::string word = name();
    if (word == "true" || word == "True") return true;
    if (word == "false" || word == "False") return false;
    if (word == "none" || word == "None") return {};
    if (accept("(")) return call(word);
    const Json* variable = scopes_.find(word);
    if (variable == nullptr) return {};
    budget_.take(static_cast<int64_t>(variable->size()));
    return *variable;
  }

  std::string_view text_;
  const ChatScopes& scopes_;
  ChatBudget& budget_;
  size_t at_ = 0;
  int depth_ = 0;
  bool alive_ = true;
  std::string pending_;  // what was raised: counts unless its value turns out not to be wanted
};

}  // namespace

const Json* ChatScopes::find(const std::string& name) const {
  for (size_t i = scopes_.size(); i-- > 0;) {
    const auto found = scopes_[i].find(name);
    if (found != scopes_[i].end()) return &found->second;
  }
  return nullptr;
}

void ChatScopes::set_member(const std::string& name, const std::string& member, Json value) {
  for (size_t i = scopes_.size(); i-- > 0;) {
    const auto found = scopes_[i].find(name);
    if (found == scopes_[i].end() || !found->second.is_object()) continue;
    found->second[member] = std::move(value);
    return;
  }
  refuse("no namespace " + name);
}

Json evaluate_chat_expression(std::string_view text, const ChatScopes& scopes, ChatBudget& budget) {
  return Evaluator(text, scopes, budget).whole();
}

bool chat_truth(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.empty();
}

std::string chat_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return {};
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace eep
