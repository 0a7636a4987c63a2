#include "loaders/text/chat_expression.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "loaders/text/chat_format.h"
#include "loaders/text/chat_functions.h"

namespace eep {

namespace {

constexpr size_t kMaxText = size_t{1} << 24;
constexpr int64_t kMaxInteger = int64_t{1} << 53;

ChatValue integer(int64_t value) {
  if (value > kMaxInteger || value < -kMaxInteger) refuse_chat("number too large");
  return value;
}

ChatValue real(double value) {
  if (!std::isfinite(value)) refuse_chat("number too large");
  return value;
}

// Python's // and %: towards minus infinity.
ChatValue divided(const std::string& sign, const ChatValue& a, const ChatValue& b) {
  if (b.number() == 0) refuse_chat("division by zero");
  if (sign == "/") return real(a.number() / b.number());
  if (!a.is_integer() || !b.is_integer()) refuse_chat(sign + " of numbers that are not whole");
  const int64_t rest = a.integer % b.integer;
  const bool off = rest != 0 && (rest < 0) != (b.integer < 0);
  if (sign == "%") return off ? rest + b.integer : rest;
  return a.integer / b.integer - (off ? 1 : 0);
}

ChatValue arithmetic(const std::string& sign, const ChatValue& a, const ChatValue& b) {
  if (sign == "/" || sign == "//" || sign == "%") return divided(sign, a, b);
  if (sign == "**") {
    if (!a.is_integer() || !b.is_integer() || b.integer < 0 || b.integer > 64)
      refuse_chat("a power of these numbers");
    ChatValue power(int64_t{1});
    for (int64_t i = 0; i < b.integer; ++i) power = arithmetic("*", power, a);
    return power;
  }
  if (!a.is_integer() || !b.is_integer()) {
    const double x = a.number(), y = b.number();
    return real(sign == "+" ? x + y : sign == "-" ? x - y : x * y);
  }
  if (sign == "*") {
    if (std::abs(static_cast<double>(a.integer) * static_cast<double>(b.integer)) > 9e15)
      refuse_chat("number too large");
    return integer(a.integer * b.integer);
  }
  return integer(sign == "+" ? a.integer + b.integer : a.integer - b.integer);
}

// Names that Python's texts, lists, mappings and numbers have of their own, besides those that chat_functions
// calls: a member of that name is a method, which is no value here.
bool is_method(const ChatValue& value, const std::string& name) {
  static const std::vector<std::string> kMap{"clear", "copy",    "fromkeys",   "get",    "items", "keys",
                                             "pop",   "popitem", "setdefault", "update", "values"};
  static const std::vector<std::string> kList{"append", "clear",  "copy", "count",   "extend",
                                              "index",  "insert", "pop",  "reverse", "remove",
                                              "sort",   "start",  "stop", "step"};
  static const std::vector<std::string> kText{
      "capitalize", "casefold",     "center",       "count",   "encode",     "endswith",    "expandtabs",
      "find",       "format",       "format_map",   "index",   "isalnum",    "isalpha",     "isascii",
      "isdecimal",  "isdigit",      "isidentifier", "islower", "isnumeric",  "isprintable", "isspace",
      "istitle",    "isupper",      "join",         "ljust",   "lower",      "lstrip",      "maketrans",
      "partition",  "removeprefix", "removesuffix", "replace", "rfind",      "rindex",      "rjust",
      "rpartition", "rsplit",       "rstrip",       "split",   "splitlines", "startswith",  "strip",
      "swapcase",   "title",        "translate",    "upper",   "zfill"};
  static const std::vector<std::string> kNumber{
      "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
      "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
      "numerator",        "real",      "to_bytes"};
  if (name.starts_with("__")) return true;
  const std::vector<std::string>& names = value.is_map()    ? kMap
                                          : value.is_text() ? kText
                                          : value.items     ? kList
                                                            : kNumber;
  return (value.is_map() || value.is_text() || value.items || value.is_number()) &&
         std::find(names.begin(), names.end(), name) != names.end();
}

// A bound of a slice: false where there is none.
bool bound(const ChatValue& value, int64_t* number) {
  if (value.is_none()) return false;
  *number = value.integer;
  return true;
}

}  // namespace

const ChatValue* ChatScopes::find(const std::string& name) const {
  for (const Scope* scope = place(); scope != nullptr; scope = scope->outer) {
    const auto found = scope->variables.find(name);
    if (found != scope->variables.end()) return &found->second;
  }
  return nullptr;
}

ChatValue ChatEvaluator::text(std::string value) {
  if (value.size() > kMaxText) refuse_chat("text too long");
  budget_.take(static_cast<int64_t>(value.size() / 64));
  return value;
}

ChatValue ChatEvaluator::evaluate(const ChatNode& node) {
  budget_.take(1);
  const auto part = [&](size_t i) { return evaluate(node.parts[i]); };
  switch (node.op) {
    case ChatOp::kConstant:
      return node.value;
    case ChatOp::kName: {
      if (const ChatValue* variable = scopes_.find(node.text)) return *variable;
      for (const char* own : {"varargs", "kwargs", "self", "super"}) {
        if (node.text == own) refuse_chat("name not known: " + node.text);
      }
      return is_chat_function(node.text) ? ChatValue::function(node.text) : ChatValue();
    }
    case ChatOp::kList:
    case ChatOp::kTuple: {
      std::vector<ChatValue> values;
      for (const ChatNode& item : node.parts) values.push_back(evaluate(item));
      return ChatValue::sequence(node.op == ChatOp::kList ? ChatKind::kList : ChatKind::kTuple,
                                 std::move(values));
    }
    case ChatOp::kMap: {
      ChatValue map = ChatValue::object(ChatKind::kMap);
      for (size_t i = 0; i + 1 < node.parts.size(); i += 2) {
        const ChatValue key = part(i);
        map.set(key, part(i + 1));
        budget_.take(static_cast<int64_t>(i));
      }
      return map;
    }
    case ChatOp::kMember:
      return member(part(0), node.text);
    case ChatOp::kElement:
      return element(part(0), part(1));
    case ChatOp::kSlice:
      return slice(node);
    case ChatOp::kCall:
      return call(node);
    case ChatOp::kFilter: {
      const ChatValue value = part(0);
      return filter(node.text, value, arguments(node));
    }
    case ChatOp::kTest: {
      const ChatValue value = part(0);
      const ChatArguments given = arguments(node);
      if (!given.named.empty()) refuse_chat("a test with named arguments");
      return test(node.text, value, given.values);
    }
    case ChatOp::kNot:
      return !chat_truth(part(0));
    case ChatOp::kNegate:
    case ChatOp::kPlus: {
      const ChatValue value = part(0);
      if (!value.is_number()) refuse_chat("a sign before something that is no number");
      return arithmetic(node.op == ChatOp::kPlus ? "+" : "-", ChatValue(int64_t{0}), value);
    }
    case ChatOp::kBinary: {
      const ChatValue left = part(0);
      return binary(node.text, left, part(1));
    }
    case ChatOp::kCompare:
      return compare(node);
    case ChatOp::kAnd: {
      ChatValue left = part(0);
      return chat_truth(left) ? part(1) : left;
    }
    case ChatOp::kOr: {
      ChatValue left = part(0);
      return chat_truth(left) ? left : part(1);
    }
    case ChatOp::kCondition:
      return chat_truth(part(1)) ? part(0) : part(2);
  }
  return {};
}

ChatValue ChatEvaluator::binary(const std::string& sign, const ChatValue& a, const ChatValue& b) {
  if (sign == "~") return text(chat_text(a) + chat_text(b));
  if (a.is_number() && b.is_number()) return arithmetic(sign, a, b);
  if (sign == "+" && a.is_text() && b.is_text()) return text(a.text + b.text);
  if (sign == "+" && a.kind == b.kind && (a.kind == ChatKind::kList || a.kind == ChatKind::kTuple)) {
    std::vector<ChatValue> values = a.values();
    values.insert(values.end(), b.values().begin(), b.values().end());
    budget_.take(static_cast<int64_t>(values.size()));
    return ChatValue::sequence(a.kind, std::move(values));
  }
  if (sign == "%" && a.is_text()) return text(chat::format_percent(a.text, b));
  if (sign == "*" && (a.is_text() || b.is_text()) && (a.is_integer() || b.is_integer())) {
    const std::string& repeated = a.is_text() ? a.text : b.text;
    const int64_t count = std::max<int64_t>(0, a.is_text() ? b.integer : a.integer);
    if (!repeated.empty() && count > static_cast<int64_t>(kMaxText / repeated.size()))
      refuse_chat("text too long");
    std::string whole;
    for (int64_t i = 0; i < count && !repeated.empty(); ++i) whole += repeated;
    return text(std::move(whole));
  }
  refuse_chat(sign + " of values that it does not fit (~ joins texts)");
}

ChatValue ChatEvaluator::compare(const ChatNode& node) {
  ChatValue left = evaluate(node.parts[0]);
  for (size_t i = 0; i < node.names.size(); ++i) {
    const std::string& sign = node.names[i];
    ChatValue right = evaluate(node.parts[i + 1]);
    bool holds = false;
    if (sign == "in" || sign == "not in") {
      holds = contains(right, left) == (sign == "in");
    } else if (sign == "==" || sign == "!=") {
      holds = chat_equal(left, right) == (sign == "==");
    } else {
      const int order = chat_compare(left, right);
      holds = sign == "<" ? order < 0 : sign == "<=" ? order <= 0 : sign == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

bool ChatEvaluator::contains(const ChatValue& whole, const ChatValue& part) {
  if (whole.is_text()) {
    if (!part.is_text()) refuse_chat("in: something that is no text in a text");
    return whole.text.find(part.text) != std::string::npos;
  }
  if (whole.is_map()) {
    if (part.items || part.is_map()) refuse_chat("in: a list or a mapping in a mapping");
    return whole.find_key(part) != nullptr;
  }
  if (whole.is_undefined()) return false;
  if (!whole.items) refuse_chat("in: neither a text nor a list nor a mapping");
  std::vector<ChatValue> storage;
  const std::vector<ChatValue>& values = iterate_chat(whole, &storage);
  return std::any_of(values.begin(), values.end(),
                     [&](const ChatValue& item) { return chat_equal(item, part); });
}

ChatValue ChatEvaluator::member(const ChatValue& value, const std::string& name) {
  if (value.is_undefined()) refuse_chat("a member of an undefined value: " + name);
  if (value.kind == ChatKind::kLoop && (name == "cycle" || name == "changed"))
    refuse_chat("not understood: loop." + name);
  if (is_method(value, name)) refuse_chat("a method as a value: " + name);
  if (value.kind == ChatKind::kMacro || value.kind == ChatKind::kFunction)
    refuse_chat("a member of a function: " + name);
  const ChatValue* found = value.find(name);
  return found == nullptr ? ChatValue() : *found;
}

ChatValue ChatEvaluator::element(const ChatValue& value, const ChatValue& index) {
  if (value.is_undefined()) refuse_chat("an element of an undefined value");
  if (index.is_text()) {
    const ChatValue* found = value.is_map() ? value.find(index.text) : nullptr;
    return found != nullptr ? *found : member(value, index.text);
  }
  if (value.is_map()) {
    const ChatValue* found = value.find_key(index);
    return found == nullptr ? ChatValue() : *found;
  }
  const bool indexed = value.is_text() || value.kind == ChatKind::kList || value.kind == ChatKind::kTuple ||
                       value.kind == ChatKind::kRange;
  if (!indexed || !index.is_integer()) return {};
  std::vector<ChatValue> storage;
  const std::vector<ChatValue>& values = iterate_chat(value, &storage);
  const int64_t size = std::ssize(values);
  const int64_t place = index.integer < 0 ? index.integer + size : index.integer;
  return place < 0 || place >= size ? ChatValue() : values[static_cast<size_t>(place)];
}

// Python's: bounds outside are cut, a step may go backwards.
ChatValue ChatEvaluator::slice(const ChatNode& node) {
  const ChatValue value = evaluate(node.parts[0]);
  ChatValue bounds[3];
  for (size_t i = 0; i < 3; ++i) bounds[i] = evaluate(node.parts[i + 1]);
  if (value.is_undefined()) refuse_chat("a slice of an undefined value");
  const bool sliced = value.is_text() || value.kind == ChatKind::kList || value.kind == ChatKind::kTuple ||
                      value.kind == ChatKind::kRange;
  const bool whole = std::all_of(std::begin(bounds), std::end(bounds), [](const ChatValue& bound) {
    return bound.is_none() || bound.is_integer();
  });
  if (!sliced || !whole) refuse_chat("a slice of something that has none, or with bounds that are not whole");
  std::vector<ChatValue> storage;
  const std::vector<ChatValue>& values = iterate_chat(value, &storage);
  const int64_t size = std::ssize(values);
  budget_.take(size / 8);
  int64_t step = 1, begin = 0, end = 0;
  bound(bounds[2], &step);
  if (step == 0) refuse_chat("a slice of step zero");
  const auto cut = [&](int64_t at) {
    if (at < 0) at += size;
    return step > 0 ? std::clamp<int64_t>(at, 0, size) : std::clamp<int64_t>(at, -1, size - 1);
  };
  begin = bound(bounds[0], &begin) ? cut(begin) : step > 0 ? 0 : size - 1;
  end = bound(bounds[1], &end) ? cut(end) : step > 0 ? size : -1;
  step = std::clamp(step, -size - 1, size + 1);
  std::vector<ChatValue> kept;
  std::string kept_text;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    if (value.is_text()) {
      kept_text += values[static_cast<size_t>(i)].text;
    } else {
      kept.push_back(values[static_cast<size_t>(i)]);
    }
  }
  if (value.is_text()) return kept_text;
  return ChatValue::sequence(value.kind, std::move(kept));
}

ChatArguments ChatEvaluator::arguments(const ChatNode& node, const ChatValue* caller) {
  ChatArguments given;
  const size_t positional = node.parts.size() - node.names.size();
  for (size_t i = 1; i < node.parts.size(); ++i) {
    ChatValue value = evaluate(node.parts[i]);
    if (i < positional) {
      given.values.push_back(std::move(value));
    } else {
      given.named.emplace_back(node.names[i - positional], std::move(value));
    }
  }
  if (caller == nullptr) return given;
  for (const std::string& name : node.names) {
    if (name == "caller") refuse_chat("a call block with an argument caller of its own");
  }
  given.named.emplace_back("caller", *caller);
  return given;
}

ChatValue ChatEvaluator::call(const ChatNode& node, const ChatValue* caller) {
  const ChatNode& callee = node.parts[0];
  if (callee.op == ChatOp::kMember) {
    const ChatValue value = evaluate(callee.parts[0]);
    if (value.is_undefined()) refuse_chat("a member of an undefined value: " + callee.text);
    const bool own = value.kind == ChatKind::kLoop || value.is_text() || value.is_map() || value.items;
    if (own) return call_chat_method(*this, value, callee.text, arguments(node, caller));
    refuse_chat("method not known: " + callee.text);
  }
  const ChatValue function = evaluate(callee);
  const ChatArguments given = arguments(node, caller);
  if (function.kind == ChatKind::kMacro || function.kind == ChatKind::kLoop) return call_own(function, given);
  if (function.kind == ChatKind::kFunction) return call_chat_function(*this, function.text, given);
  if (callee.op == ChatOp::kName && callee.text == "strftime_now" && function.is_text()) return function;
  refuse_chat(callee.op == ChatOp::kName ? "function not known: " + callee.text
                                         : "a call of something that is no function");
}

}  // namespace eep
