// A recursive descent that evaluates while it reads. What must not happen (the branch of a condition that is
// not taken) is read with alive_ = false; the value before an `if` is read first and forgotten if need be.
#include "loaders/chat_expression.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "loaders/extract.h"
#include "loaders/unicode.h"

namespace eep {

namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxText = size_t{1} << 24;

[[noreturn]] void refuse(const std::string& what) { throw Error(ExitCode::kData, "chat template", what); }

// What Jinja calls undefined is not none: no other value is of this type.
Json undefined() { return Json::binary({}); }
bool is_undefined(const Json& value) { return value.is_binary(); }

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> points;
  for (size_t at = 0; at < text.size(); at += points.back().size())
    points.push_back(text.substr(at, decode_utf8(text, at).bytes));
  return points;
}

std::string joined_part(const std::vector<std::string>& points, size_t begin, size_t end) {
  std::string text;
  for (size_t i = begin; i < end; ++i) text += points[i];
  return text;
}

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// White space, or the characters of `signs`, off the ends.
std::string strip(const std::string& text, bool left, bool right, const std::string* signs = nullptr) {
  std::vector<std::string> points = characters(text);
  const auto goes = [&](const std::string& point) {
    return signs == nullptr ? eep::strip(point).empty() : signs->find(point) != std::string::npos;
  };
  size_t begin = 0, end = points.size();
  while (left && begin < end && goes(points[begin])) ++begin;
  while (right && end > begin && goes(points[end - 1])) --end;
  return joined_part(points, begin, end);
}

// Letters that Python turns into several, or by their place in the word, are refused.
std::string cased(const std::string& text, bool upper) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    const uint32_t value = point.value;
    const bool special =
        upper ? value == 0xdf || value == 0x149 || value == 0x1f0 || value == 0x390 || value == 0x3b0 ||
                    value == 0x587 || (value >= 0x1e96 && value <= 0x1e9a) ||
                    (value >= 0x1f50 && value <= 0x1ffc) || (value >= 0xfb00 && value <= 0xfb17)
              : value == 0x130 || value == 0x3a3;
    if (special) refuse("the case of a letter that has several: " + text.substr(at, point.bytes));
    if (value == kInvalidCodePoint) {
      out += text.substr(at, point.bytes);
    } else {
      const auto sign = static_cast<utf8proc_int32_t>(value);
      append_utf8(out, static_cast<uint32_t>(upper ? utf8proc_toupper(sign) : utf8proc_tolower(sign)));
    }
    at += point.bytes;
  }
  return out;
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  if (from.empty()) refuse("replace of an empty text");
  std::string out;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size()) {
    out += text.substr(begin, at - begin) + to;
    if (out.size() > kMaxText) refuse("text too long");
  }
  return out + text.substr(begin);
}

// As json.dumps writes it: ", " and ": ".
std::string json_text(const Json& value) {
  if (is_undefined(value)) refuse("tojson of an undefined value");
  if (!value.is_structured()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string out = value.is_array() ? "[" : "{";
  bool first = true;
  for (const auto& [key, item] : value.items()) {
    if (!std::exchange(first, false)) out += ", ";
    if (value.is_object()) out += Json(key).dump(-1, ' ', false, Json::error_handler_t::replace) + ": ";
    out += json_text(item);
    if (out.size() > kMaxText) refuse("text too long");
  }
  return out + (value.is_array() ? "]" : "}");
}

// Python's ==: true is 1.
bool equal(const Json& a, const Json& b) {
  if (a.is_boolean() && b.is_number()) return Json(a.get<bool>() ? 1 : 0) == b;
  if (b.is_boolean() && a.is_number()) return Json(b.get<bool>() ? 1 : 0) == a;
  return a == b;
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
      Json other = undefined();
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
    const Json left = sum();
    Json result = left;
    for (bool compared = false;; compared = true) {
      budget_.take(1);
      const std::string sign = comparison_sign();
      if (sign.empty()) return result;
      if (compared) refuse("comparisons in a chain");
      const Json right = sum();
      if (sign == "in" || sign == "not in") {
        result = contains(right, left) == (sign == "in");
      } else if (sign == "==" || sign == "!=") {
        result = equal(left, right) == (sign == "==");
      } else {
        const int order = compare(left, right);
        result = sign == "<" ? order < 0 : sign == "<=" ? order <= 0 : sign == ">" ? order > 0 : order >= 0;
      }
    }
  }
  std::string comparison_sign() {
    for (const char* sign : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (accept(sign)) return sign;
    }
    if (accept_name("in")) return "in";
    if (!accept_name("not")) return "";
    if (!accept_name("in")) refuse("expected in after not");
    return "not in";
  }

  // Below 0, 0, above 0. Texts by their code points, which is the order of their bytes.
  int compare(const Json& a, const Json& b) {
    if (a.is_string() && b.is_string()) return a.get<std::string>().compare(b.get<std::string>());
    if (!is_number(a) || !is_number(b)) {
      raise("a comparison of values that have no order");
      return 0;
    }
    const double left = a.is_boolean() ? a.get<bool>() : a.get<double>();
    const double right = b.is_boolean() ? b.get<bool>() : b.get<double>();
    return left < right ? -1 : left > right ? 1 : 0;
  }
  static bool is_number(const Json& value) { return value.is_boolean() || value.is_number(); }

  int64_t number(const Json& value) {
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_number_integer()) return value.get<int64_t>();
    raise("a whole number is expected");
    return 0;
  }
  bool contains(const Json& whole, const Json& part) {
    if (whole.is_string()) {
      if (!part.is_string()) raise("in: something that is no text in a text");
      return part.is_string() &&
             whole.get_ref<const std::string&>().find(part.get<std::string>()) != std::string::npos;
    }
    if (whole.is_object()) return part.is_string() && whole.contains(part.get<std::string>());
    if (!whole.is_array() && !is_undefined(whole)) raise("in: neither a text nor a list nor a mapping");
    return whole.is_array() &&
           std::any_of(whole.begin(), whole.end(), [&](const Json& item) { return equal(item, part); });
  }
  static bool test(const Json& value, const std::string& name) {
    if (name == "defined") return !is_undefined(value);
    if (name == "undefined") return is_undefined(value);
    if (name == "none") return value.is_null();
    if (name == "string") return value.is_string();
    if (name == "mapping") return value.is_object();
    if (name == "iterable" || name == "sequence") {
      return value.is_structured() || value.is_string() || is_undefined(value);
    }
    if (name == "true") return value.is_boolean() && value.get<bool>();
    if (name == "false") return value.is_boolean() && !value.get<bool>();
    if (name == "boolean") return value.is_boolean();
    if (name == "number") return is_number(value);
    if (name == "integer") return value.is_number_integer();
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
        } else if (value.is_string() && other.is_string()) {
          value = joined(value, other);
        } else {
          raise("a sum of unlike values (~ joins texts)");
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

  // Filters and tests bind less than a sign, more than anything else.
  Json unary() {
    Json value = accept("-") ? Json(-number(postfix())) : postfix();
    for (;;) {
      if (accept("|")) {
        value = filter(value, name());
      } else if (accept_name("is")) {
        const bool inverse = accept_name("not");
        value = test(value, name()) != inverse;
        if (accept("(")) refuse("a test with arguments");
      } else {
        return value;
      }
    }
  }

  Json postfix() {
    Json value = primary();
    for (;;) {
      const bool dot = accept(".");
      if (!dot && !accept("[")) return value;
      if (is_undefined(value)) raise("a member of an undefined value");
      if (!dot) {
        value = element(value);
        continue;
      }
      const std::string member = name();
      value = accept("(") ? method(value, member) : member_of(value, member);
    }
  }

  static Json member_of(const Json& value, const std::string& member) {
    return value.is_object() && value.contains(member) ? value.at(member) : undefined();
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
        if (value.is_string()) {
          std::vector<std::string> points = characters(value.get<std::string>());
          std::reverse(points.begin(), points.end());
          return joined_part(points, 0, points.size());
        }
        Json reversed = value;
        if (value.is_array()) std::reverse(reversed.begin(), reversed.end());
        if (!value.is_array()) raise("a slice of something that is no list");
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
    if (!value.is_array() && !value.is_string()) {
      if (slice) raise("a slice of something that is no list");
      return undefined();
    }
    const std::vector<std::string> points =
        value.is_string() ? characters(value.get<std::string>()) : std::vector<std::string>();
    const int64_t size = static_cast<int64_t>(value.is_string() ? points.size() : value.size());
    const auto place = [&](const Json& index, int64_t fallback) {
      if (index.is_null()) return fallback;
      const int64_t at = number(index);
      return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
    };
    if (!slice) {
      const int64_t asked = number(first), index = asked < 0 ? asked + size : asked;
      if (index < 0 || index >= size) return undefined();
      if (value.is_string()) return points[static_cast<size_t>(index)];
      return value[static_cast<size_t>(index)];
    }
    const int64_t begin = place(first, 0), end = std::max(place(second, size), begin);
    if (value.is_string()) return joined_part(points, static_cast<size_t>(begin), static_cast<size_t>(end));
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
    if (value.is_object() && member == "get" && (given.size() == 1 || given.size() == 2)) {
      if (given[0].is_string() && value.contains(given[0].get<std::string>()))
        return value.at(given[0].get<std::string>());
      return given.size() == 2 ? given[1] : Json();
    }
    static constexpr std::string_view kMethods[] = {"strip", "lstrip", "rstrip", "startswith", "endswith",
                                                    "split", "upper",  "lower",  "replace"};
    if (std::find(std::begin(kMethods), std::end(kMethods), member) == std::end(kMethods))
      refuse("method not known: " + member);
    const bool texts =
        std::all_of(given.begin(), given.end(), [](const Json& argument) { return argument.is_string(); });
    if (!value.is_string() || !texts) {
      raise("method " + member + " of or with something that is no text");
      return undefined();
    }
    const std::string text = value.get<std::string>();
    const std::string argument = given.empty() ? "" : given[0].get<std::string>();
    if (given.size() < 2 && member.ends_with("strip")) {
      return strip(text, member != "rstrip", member != "lstrip", given.empty() ? nullptr : &argument);
    }
    if (given.empty() && (member == "upper" || member == "lower")) return cased(text, member == "upper");
    if (given.size() == 1 && member == "startswith") return text.starts_with(argument);
    if (given.size() == 1 && member == "endswith") return text.ends_with(argument);
    if (given.size() == 2 && member == "replace")
      return replaced(text, argument, given[1].get<std::string>());
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
    refuse("method " + member + " with these arguments");
  }

  Json filter(const Json& value, const std::string& name) {
    const std::vector<Json> given = accept("(") ? arguments() : std::vector<Json>();
    const auto most = [&](size_t count) {
      if (given.size() > count) refuse("filter " + name + " with these arguments");
    };
    if (name == "default" || name == "d") {
      most(2);
      const bool falls =
          is_undefined(value) || (given.size() == 2 && chat_truth(given[1]) && !chat_truth(value));
      return falls ? (given.empty() ? Json("") : given[0]) : value;
    }
    if (name == "join") {
      most(1);
      if (!value.is_array()) refuse("join of something that is no list");
      std::string text;
      for (size_t i = 0; i < value.size(); ++i) {
        if (i > 0 && !given.empty()) text += chat_text(given[0]);
        text += chat_text(value[i]);
        if (text.size() > kMaxText) refuse("text too long");
      }
      return text;
    }
    if (name == "replace" && given.size() == 2)
      return replaced(chat_text(value), chat_text(given[0]), chat_text(given[1]));
    most(0);
    if (name == "trim") return strip(chat_text(value), true, true);
    if (name == "string") return chat_text(value);
    if (name == "length" || name == "count") {
      if (value.is_string()) return characters(value.get<std::string>()).size();
      if (!value.is_structured() && !is_undefined(value)) raise("length of something that has none");
      return is_undefined(value) ? size_t{0} : value.size();
    }
    if (name == "tojson") return json_text(value);
    if (name == "first" || name == "last") {
      if (value.is_string()) {
        const std::vector<std::string> points = characters(value.get<std::string>());
        return points.empty() ? undefined() : Json(name == "first" ? points.front() : points.back());
      }
      if (!value.is_array() && !is_undefined(value)) raise(name + " of something that is no list");
      if (!value.is_array() || value.empty()) return undefined();
      return name == "first" ? value.front() : value.back();
    }
    if (name == "upper" || name == "lower") return cased(chat_text(value), name == "upper");
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
      static constexpr std::string_view kLetters = "ntrabfv\\'\"", kMeanings = "\n\t\r\a\b\f\v\\'\"";
      if (const size_t letter = kLetters.find(escaped); letter != std::string_view::npos) {
        text += kMeanings[letter];
      } else if (is_digit(escaped) || escaped == 'x' || escaped == 'u' || escaped == 'U' || escaped == 'N') {
        refuse(std::string("escape not known: \\") + escaped);
      } else if (escaped != '\n') {  // Python keeps a backslash that escapes nothing
        text += '\\';
        text += escaped;
      }
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
      return undefined();
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
    if (variable == nullptr) return undefined();
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
  return !is_undefined(value) && !value.empty();
}

std::string chat_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (is_undefined(value)) return {};
  if (value.is_null()) return "None";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (value.is_structured()) refuse("a list or a mapping as text (expected tojson)");
  return value.dump();
}

}  // namespace eep
