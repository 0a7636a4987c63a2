#include "loaders/text/chat_functions.h"

#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <span>

#include "loaders/formats/unicode.h"

namespace eep {

namespace {

constexpr size_t kMaxText = size_t{1} << 24;

// Arguments by the places of their parameters; undefined where none is given.
using Bound = std::vector<ChatValue>;

struct Row {
  const char* name;
  std::vector<const char*> parameters;
  ChatValue (*call)(ChatEvaluator& evaluator, const ChatValue& value, const Bound& given);
};

Bound bind(const Row& row, const ChatArguments& given) {
  Bound bound(row.parameters.size());
  if (given.values.size() > bound.size()) refuse_chat(std::string(row.name) + " with these arguments");
  std::copy(given.values.begin(), given.values.end(), bound.begin());
  for (const auto& [name, value] : given.named) {
    const auto place = std::find(row.parameters.begin(), row.parameters.end(), name);
    const auto i = static_cast<size_t>(place - row.parameters.begin());
    if (place == row.parameters.end() || i < given.values.size())
      refuse_chat(std::string(row.name) + " with these arguments (" + name + ")");
    bound[i] = value;
  }
  const auto undefined = [](const auto& value) { return value.is_undefined(); };
  if (row.call != nullptr && (std::any_of(given.values.begin(), given.values.end(), undefined) ||
                              std::any_of(given.named.begin(), given.named.end(),
                                          [](const auto& n) { return n.second.is_undefined(); })))
    refuse_chat(std::string(row.name) + " with an undefined value");
  return bound;
}

const Row* find_row(std::span<const Row> rows, const std::string& name) {
  const auto row =
      std::find_if(rows.begin(), rows.end(), [&](const Row& known) { return name == known.name; });
  return row == rows.end() ? nullptr : &*row;
}

const std::string& text_of(const ChatValue& value, const char* who) {
  if (!value.is_text()) refuse_chat(std::string(who) + " of or with something that is no text");
  return value.text;
}

int64_t integer_of(const ChatValue& value, const char* who) {
  if (!value.is_integer()) refuse_chat(std::string(who) + " with something that is no whole number");
  return value.integer;
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
    if (special) refuse_chat("the case of a letter that has several: " + text.substr(at, point.bytes));
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

bool is_ascii(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// capitalize(), title()
std::string capitals(const std::string& text, bool every_word) {
  if (!is_ascii(text)) refuse_chat("capital letters beyond ASCII");
  std::string out = cased(text, false);
  bool begins = true;
  for (char& c : out) {
    const bool letter = c >= 'a' && c <= 'z';
    if (begins && letter) c = static_cast<char>(c - 'a' + 'A');
    begins = every_word && !letter;
  }
  return out;
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t count) {
  if (from.empty()) refuse_chat("replace of an empty text");
  std::string out;
  size_t begin = 0;
  for (size_t at; count != 0 && (at = text.find(from, begin)) != std::string::npos;
       begin = at + from.size()) {
    out += text.substr(begin, at - begin) + to;
    if (out.size() > kMaxText) refuse_chat("text too long");
    if (count > 0) --count;
  }
  return out + text.substr(begin);
}

ChatValue list_of(std::vector<ChatValue> values, ChatKind kind = ChatKind::kList) {
  return ChatValue::sequence(kind, std::move(values));
}

std::vector<ChatValue> values_of(ChatEvaluator& evaluator, const ChatValue& value) {
  std::vector<ChatValue> storage;
  const std::vector<ChatValue>& values = iterate_chat(value, &storage);
  evaluator.budget().take(static_cast<int64_t>(values.size()));
  return values;
}

// Parts between separators; none: between blanks, without empty ones.
ChatValue split(const std::string& text, const ChatValue& separator, int64_t most, bool from_right) {
  std::vector<ChatValue> parts;
  if (separator.is_none() || separator.is_undefined()) {
    if (most >= 0) refuse_chat("split at blanks with a count");
    std::string part;
    for (const std::string& point : chat_characters(text)) {
      const bool blank = is_python_space(decode_utf8(point, 0).value);
      if (!blank) part += point;
      if (blank && !part.empty()) parts.emplace_back(std::exchange(part, {}));
    }
    if (!part.empty()) parts.emplace_back(part);
    return list_of(std::move(parts));
  }
  const std::string& sign = text_of(separator, "split");
  if (sign.empty()) refuse_chat("split at an empty text");
  if (from_right && most >= 0) {
    size_t end = text.size();
    for (size_t at;
         most > 0 && end >= sign.size() && (at = text.rfind(sign, end - sign.size())) != std::string::npos;
         --most) {
      parts.emplace_back(text.substr(at + sign.size(), end - at - sign.size()));
      end = at;
    }
    parts.emplace_back(text.substr(0, end));
    std::reverse(parts.begin(), parts.end());
    return list_of(std::move(parts));
  }
  size_t begin = 0;
  for (size_t end; most != 0 && (end = text.find(sign, begin)) != std::string::npos;
       begin = end + sign.size()) {
    parts.emplace_back(text.substr(begin, end - begin));
    if (most > 0) --most;
  }
  parts.emplace_back(text.substr(begin));
  return list_of(std::move(parts));
}

ChatValue joined(ChatEvaluator& evaluator, const std::string& sign, const ChatValue& list, bool texts_only) {
  std::string text;
  bool first = true;
  for (const ChatValue& value : values_of(evaluator, list)) {
    if (texts_only) text_of(value, "join");
    text += (std::exchange(first, false) ? "" : sign) + chat_text(value);
    if (text.size() > kMaxText) refuse_chat("text too long");
  }
  return text;
}

bool ends(const ChatValue& whole, const ChatValue& part, bool front) {
  if (part.kind == ChatKind::kTuple) {
    return std::any_of(part.values().begin(), part.values().end(),
                       [&](const ChatValue& one) { return ends(whole, one, front); });
  }
  const std::string& text = text_of(part, front ? "startswith" : "endswith");
  return front ? whole.text.starts_with(text) : whole.text.ends_with(text);
}

ChatValue stripped(const ChatValue& value, const ChatValue& signs, bool left, bool right) {
  if (signs.is_none() || signs.is_undefined()) return chat_strip(value.text, left, right);
  const std::string& removed = text_of(signs, "strip");
  return chat_strip(value.text, left, right, &removed);
}

int64_t count_or(const ChatValue& value, const char* who) {
  return value.is_undefined() ? -1 : integer_of(value, who);
}

std::span<const Row> text_methods() {
  static const std::vector<Row> kRows{
      {"strip", {"chars"}, [](auto&, const auto& v, const auto& a) { return stripped(v, a[0], true, true); }},
      {"lstrip",
       {"chars"},
       [](auto&, const auto& v, const auto& a) { return stripped(v, a[0], true, false); }},
      {"rstrip",
       {"chars"},
       [](auto&, const auto& v, const auto& a) { return stripped(v, a[0], false, true); }},
      {"upper", {}, [](auto&, const auto& v, const auto&) -> ChatValue { return cased(v.text, true); }},
      {"lower", {}, [](auto&, const auto& v, const auto&) -> ChatValue { return cased(v.text, false); }},
      {"capitalize",
       {},
       [](auto&, const auto& v, const auto&) -> ChatValue { return capitals(v.text, false); }},
      {"title", {}, [](auto&, const auto& v, const auto&) -> ChatValue { return capitals(v.text, true); }},
      {"startswith",
       {"prefix"},
       [](auto&, const auto& v, const auto& a) -> ChatValue { return ends(v, a[0], true); }},
      {"endswith",
       {"suffix"},
       [](auto&, const auto& v, const auto& a) -> ChatValue { return ends(v, a[0], false); }},
      {"split",
       {"sep", "maxsplit"},
       [](auto&, const auto& v, const auto& a) {
         return split(v.text, a[0], count_or(a[1], "split"), false);
       }},
      {"rsplit",
       {"sep", "maxsplit"},
       [](auto&, const auto& v, const auto& a) {
         return split(v.text, a[0], count_or(a[1], "rsplit"), true);
       }},
      {"replace",
       {"old", "new", "count"},
       [](auto&, const auto& v, const auto& a) -> ChatValue {
         return replaced(v.text, text_of(a[0], "replace"), text_of(a[1], "replace"),
                         count_or(a[2], "replace"));
       }},
      {"join",
       {"iterable"},
       [](auto& e, const auto& v, const auto& a) {
         if (a[0].is_undefined()) refuse_chat("join of an undefined value");
         return joined(e, v.text, a[0], true);
       }},
      {"removeprefix",
       {"prefix"},
       [](auto&, const auto& v, const auto& a) -> ChatValue {
         const std::string& part = text_of(a[0], "removeprefix");
         return v.text.starts_with(part) ? v.text.substr(part.size()) : v.text;
       }},
      {"removesuffix",
       {"suffix"},
       [](auto&, const auto& v, const auto& a) -> ChatValue {
         const std::string& part = text_of(a[0], "removesuffix");
         return v.text.ends_with(part) ? v.text.substr(0, v.text.size() - part.size()) : v.text;
       }},
      {"find",
       {"sub"},
       [](auto&, const auto& v, const auto& a) -> ChatValue {
         const size_t at = v.text.find(text_of(a[0], "find"));
         return at == std::string::npos ? int64_t{-1}
                                        : static_cast<int64_t>(chat_characters(v.text.substr(0, at)).size());
       }},
      {"isdigit",
       {},
       [](auto&, const auto& v, const auto&) -> ChatValue {
         if (!is_ascii(v.text)) refuse_chat("isdigit of a text beyond ASCII");
         return !v.text.empty() && v.text.find_first_not_of("0123456789") == std::string::npos;
       }},
  };
  return kRows;
}

ChatValue pairs_of(const ChatValue& map, ChatKind kind) {
  std::vector<ChatValue> pairs;
  for (const auto& [key, value] : map.entries->entries)
    pairs.push_back(list_of({key, value}, ChatKind::kTuple));
  return list_of(std::move(pairs), kind);
}

std::span<const Row> map_methods() {
  static const std::vector<Row> kRows{
      {"get",
       {"key", "default"},
       [](auto&, const auto& v, const auto& a) {
         if (a[0].is_undefined() || a[0].items || a[0].is_map())
           refuse_chat("get with something that is no key");
         const ChatValue* found = a[0].is_text() ? v.find(a[0].text) : nullptr;
         return found != nullptr ? *found : a[1].is_undefined() ? ChatValue::none() : a[1];
       }},
      {"items", {}, [](auto&, const auto& v, const auto&) { return pairs_of(v, ChatKind::kView); }},
      {"keys",
       {},
       [](auto&, const auto& v, const auto&) {
         std::vector<ChatValue> storage;
         return list_of(iterate_chat(v, &storage), ChatKind::kView);
       }},
      {"values",
       {},
       [](auto&, const auto& v, const auto&) {
         std::vector<ChatValue> values;
         for (const auto& [key, value] : v.entries->entries) values.push_back(value);
         return list_of(std::move(values), ChatKind::kView);
       }},
  };
  return kRows;
}

ChatValue length(const ChatValue& value) {
  if (value.is_undefined()) return int64_t{0};
  if (value.is_text()) return chat_characters(value.text).size();
  if (value.is_map()) return value.entries->entries.size();
  if (value.kind == ChatKind::kLoop) return *value.find("length");
  if (!value.items || value.kind == ChatKind::kIterator) refuse_chat("length of something that has none");
  return value.values().size();
}

ChatValue first_of(ChatEvaluator& evaluator, const ChatValue& value, bool last) {
  if (last && value.kind >= ChatKind::kView)
    refuse_chat("last of a view or an iterator (expected list before)");
  const std::vector<ChatValue> values = values_of(evaluator, value);
  if (values.empty()) return {};
  return last ? values.back() : values.front();
}

// "a.b" as map and selectattr go through it.
ChatValue attribute(const ChatValue& value, const ChatValue& path) {
  if (path.is_integer()) return ChatEvaluator::element(value, path);
  ChatValue found = value;
  std::string rest = text_of(path, "attribute");
  while (true) {
    const size_t dot = rest.find('.');
    const std::string name = rest.substr(0, dot);
    if (!name.empty() && name.find_first_not_of("0123456789") == std::string::npos)
      refuse_chat("an attribute by its number");
    found = ChatEvaluator::element(found, name);
    if (dot == std::string::npos) return found;
    rest = rest.substr(dot + 1);
  }
}

ChatValue sorted(ChatEvaluator& evaluator, const ChatValue& value, const Bound& given) {
  std::vector<std::pair<ChatValue, ChatValue>> keyed;
  const bool exact = chat_truth(given[1]);
  for (ChatValue& item : values_of(evaluator, value)) {
    ChatValue key = given[2].is_undefined() || given[2].is_none() ? item : attribute(item, given[2]);
    if (key.is_text() && !exact) key = cased(key.text, false);
    if (!key.is_text() && !key.is_number()) refuse_chat("sort of values that have no order");
    keyed.emplace_back(std::move(key), std::move(item));
    if (keyed.front().first.is_text() != keyed.back().first.is_text())
      refuse_chat("sort of values that have no order");
  }
  const bool reverse = chat_truth(given[0]);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    const int order = chat_compare(a.first, b.first);
    return reverse ? order > 0 : order < 0;
  });
  std::vector<ChatValue> values;
  for (auto& [key, item] : keyed) values.push_back(std::move(item));
  return list_of(std::move(values));
}

std::string indented(const std::string& text, const Bound& given) {
  const std::string indent =
      given[0].is_undefined() ? std::string(4, ' ')
      : given[0].is_text()
          ? given[0].text
          : std::string(static_cast<size_t>(std::clamp<int64_t>(integer_of(given[0], "indent"), 0, 1000)),
                        ' ');
  if (text.find_first_of("\r\v\f\x1c\x1d\x1e") != std::string::npos ||
      text.find("\xc2\x85") != std::string::npos || text.find("\xe2\x80") != std::string::npos)
    refuse_chat("indent of lines with other ends than \\n");
  const bool blank = chat_truth(given[2]);
  std::string out = chat_truth(given[1]) ? indent : "";
  for (size_t begin = 0, line = 0;; ++line) {
    const size_t end = text.find('\n', begin);
    const std::string part = text.substr(begin, end == std::string::npos ? end : end - begin);
    if (line > 0) out += "\n" + (part.empty() && !blank ? "" : indent);
    out += part;
    if (out.size() > kMaxText) refuse_chat("text too long");
    if (end == std::string::npos) return out;
    begin = end + 1;
  }
}

ChatValue json_filter(const ChatValue& value, const Bound& given) {
  ChatJsonStyle style;
  style.ascii = chat_truth(given[0]);
  style.sorted = chat_truth(given[3]);
  if (!given[1].is_undefined() && !given[1].is_none()) {
    style.indent = static_cast<int>(std::clamp<int64_t>(integer_of(given[1], "tojson"), 0, 64));
  }
  if (!given[2].is_undefined() && !given[2].is_none()) refuse_chat("tojson with separators");
  return chat_json(value, style);
}

ChatValue integer_filter(const ChatValue& value, const Bound& given) {
  const ChatValue fallback = given[0].is_undefined() ? ChatValue(int64_t{0}) : given[0];
  if (value.is_integer()) return value.integer;
  if (value.kind == ChatKind::kReal && std::abs(value.real) < 1e15) return static_cast<int64_t>(value.real);
  if (value.is_none() || value.is_undefined()) {
    if (value.is_undefined()) refuse_chat("int of an undefined value");
    return fallback;
  }
  const std::string text = value.is_text() ? chat_strip(value.text, true, true) : "";
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  if (text.size() > sign && text.size() < 16 &&
      text.find_first_not_of("0123456789", sign) == std::string::npos)
    return static_cast<int64_t>(std::strtoll(text.c_str(), nullptr, 10));
  if (value.is_text() && text.find_first_of("0123456789_") == std::string::npos && is_ascii(text) &&
      cased(text, false) != "nan" && cased(text, false).find("inf") == std::string::npos)
    return fallback;
  refuse_chat("int of " + printable(value.is_text() ? value.text : "this value"));
}

std::span<const Row> filters() {
  static const std::vector<Row> kRows{
      {"trim",
       {"chars"},
       [](auto&, const auto& v, const auto& a) { return stripped(chat_text(v), a[0], true, true); }},
      {"string", {}, [](auto&, const auto& v, const auto&) -> ChatValue { return chat_text(v); }},
      {"upper", {}, [](auto&, const auto& v, const auto&) -> ChatValue { return cased(chat_text(v), true); }},
      {"lower",
       {},
       [](auto&, const auto& v, const auto&) -> ChatValue { return cased(chat_text(v), false); }},
      {"capitalize",
       {},
       [](auto&, const auto& v, const auto&) -> ChatValue { return capitals(chat_text(v), false); }},
      {"length", {}, [](auto&, const auto& v, const auto&) { return length(v); }},
      {"count", {}, [](auto&, const auto& v, const auto&) { return length(v); }},
      {"first", {}, [](auto& e, const auto& v, const auto&) { return first_of(e, v, false); }},
      {"last", {}, [](auto& e, const auto& v, const auto&) { return first_of(e, v, true); }},
      {"list", {}, [](auto& e, const auto& v, const auto&) { return list_of(values_of(e, v)); }},
      {"join",
       {"d", "attribute"},
       [](auto& e, const auto& v, const auto& a) {
         const std::string sign = a[0].is_undefined() ? "" : chat_text(a[0]);
         if (a[1].is_undefined() || a[1].is_none()) return joined(e, sign, v, false);
         std::vector<ChatValue> values;
         for (const ChatValue& item : values_of(e, v)) values.push_back(attribute(item, a[1]));
         return joined(e, sign, list_of(std::move(values)), false);
       }},
      {"tojson",
       {"ensure_ascii", "indent", "separators", "sort_keys"},
       [](auto&, const auto& v, const auto& a) { return json_filter(v, a); }},
      {"replace",
       {"old", "new", "count"},
       [](auto&, const auto& v, const auto& a) -> ChatValue {
         if (a[0].is_undefined() || a[1].is_undefined()) refuse_chat("replace with these arguments");
         const int64_t count = a[2].is_none() ? -1 : count_or(a[2], "replace");
         return replaced(chat_text(v), chat_text(a[0]), chat_text(a[1]), count);
       }},
      {"items",
       {},
       [](auto&, const auto& v, const auto&) {
         if (v.is_undefined()) return list_of({}, ChatKind::kIterator);
         if (!v.is_map()) refuse_chat("items of something that is no mapping");
         return pairs_of(v, ChatKind::kIterator);
       }},
      {"reverse",
       {},
       [](auto& e, const auto& v, const auto&) -> ChatValue {
         std::vector<ChatValue> values = values_of(e, v);
         std::reverse(values.begin(), values.end());
         if (!v.is_text()) return list_of(std::move(values), ChatKind::kIterator);
         return joined(e, "", list_of(std::move(values)), false);
       }},
      {"sort",
       {"reverse", "case_sensitive", "attribute"},
       [](auto& e, const auto& v, const auto& a) { return sorted(e, v, a); }},
      {"indent",
       {"width", "first", "blank"},
       [](auto&, const auto& v, const auto& a) -> ChatValue { return indented(text_of(v, "indent"), a); }},
      {"int", {"default"}, [](auto&, const auto& v, const auto& a) { return integer_filter(v, a); }},
      {"abs",
       {},
       [](auto&, const auto& v, const auto&) -> ChatValue {
         if (!v.is_number()) refuse_chat("abs of something that is no number");
         if (v.is_integer()) return v.integer < 0 ? -v.integer : v.integer;
         return v.real < 0 ? -v.real : v.real;
       }},
  };
  return kRows;
}

// Filters that take a filter or a test with its arguments, or tell apart what is given and undefined.
std::optional<ChatValue> special_filter(ChatEvaluator& evaluator, const std::string& name,
                                        const ChatValue& value, const ChatArguments& given) {
  if (name == "default" || name == "d") {
    static const Row kDefault{"default", {"default_value", "boolean"}, nullptr};
    const bool some = !given.values.empty() ||
                      std::any_of(given.named.begin(), given.named.end(),
                                  [](const auto& named) { return named.first == "default_value"; });
    const Bound bound = bind(kDefault, given);
    const bool falls = value.is_undefined() || (chat_truth(bound[1]) && !chat_truth(value));
    return falls ? (some ? bound[0] : ChatValue("")) : value;
  }
  const bool maps = name == "map", attributes = name == "selectattr" || name == "rejectattr";
  if (!maps && !attributes && name != "select" && name != "reject") return std::nullopt;
  std::vector<ChatValue> kept;
  ChatArguments rest = given;
  const auto take = [&]() -> ChatValue {
    if (rest.values.empty()) refuse_chat(name + " with these arguments");
    ChatValue one = std::move(rest.values.front());
    rest.values.erase(rest.values.begin());
    return one;
  };
  if (maps && !given.named.empty()) {
    static const Row kMap{"map", {"attribute", "default"}, nullptr};
    if (!given.values.empty()) refuse_chat("map with these arguments");
    const Bound bound = bind(kMap, given);
    for (const ChatValue& item : values_of(evaluator, value)) {
      ChatValue found = attribute(item, bound[0]);
      kept.push_back(found.is_undefined() ? bound[1] : std::move(found));
    }
    return list_of(std::move(kept), ChatKind::kIterator);
  }
  if (!given.named.empty()) refuse_chat(name + " with named arguments");
  const ChatValue path = attributes ? take() : ChatValue();
  const std::string called = maps || !rest.values.empty() ? text_of(take(), name.c_str()) : "";
  const bool selects = name.starts_with("select");
  for (const ChatValue& item : values_of(evaluator, value)) {
    const ChatValue asked = attributes ? attribute(item, path) : item;
    if (maps) {
      kept.push_back(evaluator.filter(called, asked, rest));
    } else if ((called.empty() ? chat_truth(asked) : evaluator.test(called, asked, rest.values)) == selects) {
      kept.push_back(item);
    }
  }
  return list_of(std::move(kept), ChatKind::kIterator);
}

bool compared(const std::string& name, const ChatValue& a, const ChatValue& b, bool* known) {
  *known = true;
  if (name == "==" || name == "eq" || name == "equalto") return chat_equal(a, b);
  if (name == "!=" || name == "ne") return !chat_equal(a, b);
  if (name == "in") return ChatEvaluator::contains(b, a);
  if (name == ">" || name == "gt" || name == "greaterthan") return chat_compare(a, b) > 0;
  if (name == ">=" || name == "ge") return chat_compare(a, b) >= 0;
  if (name == "<" || name == "lt" || name == "lessthan") return chat_compare(a, b) < 0;
  if (name == "<=" || name == "le") return chat_compare(a, b) <= 0;
  if (name == "divisibleby") {
    if (integer_of(b, "divisibleby") == 0) refuse_chat("division by zero");
    return integer_of(a, "divisibleby") % b.integer == 0;
  }
  *known = false;
  return false;
}

}  // namespace

ChatValue ChatEvaluator::filter(const std::string& name, const ChatValue& value, const ChatArguments& given) {
  budget_.take(1 + static_cast<int64_t>(value.text.size() / 64));
  if (std::optional<ChatValue> special = special_filter(*this, name, value, given)) return *special;
  const Row* row = find_row(filters(), name);
  if (row == nullptr) refuse_chat("filter not known: " + name);
  return row->call(*this, value, bind(*row, given));
}

bool ChatEvaluator::test(const std::string& name, const ChatValue& value,
                         const std::vector<ChatValue>& given) {
  budget_.take(1);
  if (given.size() == 1) {
    bool known = false;
    const bool holds = compared(name, value, given[0], &known);
    if (known) return holds;
  }
  if (!given.empty()) refuse_chat("test not known with these arguments: is " + name);
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.is_text();
  if (name == "mapping") return value.is_map();
  if (name == "true") return value.kind == ChatKind::kBool && value.integer != 0;
  if (name == "false") return value.kind == ChatKind::kBool && value.integer == 0;
  if (name == "boolean") return value.kind == ChatKind::kBool;
  if (name == "number") return value.is_number();
  if (name == "integer") return value.kind == ChatKind::kInt;
  if (name == "float") return value.kind == ChatKind::kReal;
  if (name == "odd" || name == "even")
    return (integer_of(value, "is odd or even") % 2 != 0) == (name == "odd");
  if (name == "iterable" || name == "sequence") {
    if (value.kind >= ChatKind::kView) refuse_chat("is " + name + " of a view, an iterator or an object");
    return value.items || value.is_map() || value.is_text() || value.is_undefined();
  }
  refuse_chat("test not known: is " + name);
}

bool is_chat_function(const std::string& name) {
  static constexpr const char* kNames[] = {"range",        "dict",   "namespace", "raise_exception",
                                           "strftime_now", "lipsum", "cycler",    "joiner"};
  return std::any_of(std::begin(kNames), std::end(kNames), [&](const char* known) { return name == known; });
}

ChatValue call_chat_function(ChatEvaluator& evaluator, const std::string& name, const ChatArguments& given) {
  if (name == "raise_exception") {
    refuse_chat(given.values.empty() ? "refuses these messages" : printable(chat_text(given.values[0])));
  }
  if (name == "strftime_now") {
    refuse_chat(
        "strftime_now: the prompt would change with the date (set the variable that it fills: "
        "--chat-set date_string=\"26 Jul 2024\")");
  }
  if ((name == "namespace" || name == "dict") && given.values.empty()) {
    ChatValue object = ChatValue::object(name == "dict" ? ChatKind::kMap : ChatKind::kNamespace);
    for (const auto& [key, value] : given.named) object.set(key, value);
    return object;
  }
  const size_t count = given.values.size();
  if (name == "range" && given.named.empty() && count >= 1 && count <= 3) {
    int64_t bounds[3] = {0, 0, 1};
    for (size_t i = 0; i < count; ++i) bounds[count == 1 ? 1 : i] = integer_of(given.values[i], "range");
    if (bounds[2] == 0) refuse_chat("range of step zero");
    std::vector<ChatValue> values;
    for (int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1]; i += bounds[2]) {
      evaluator.budget().take(1);
      values.emplace_back(i);
    }
    return list_of(std::move(values), ChatKind::kRange);
  }
  refuse_chat("function not known with these arguments: " + name);
}

ChatValue call_chat_method(ChatEvaluator& evaluator, const ChatValue& value, const std::string& name,
                           const ChatArguments& given) {
  evaluator.budget().take(1 + static_cast<int64_t>(value.text.size() / 64));
  if (value.kind == ChatKind::kLoop) {
    if (name != "cycle" || given.values.empty() || !given.named.empty())
      refuse_chat("method not known: loop." + name);
    const int64_t place = value.find("index0")->integer;
    return given.values[static_cast<size_t>(place) % given.values.size()];
  }
  const std::span<const Row> rows = value.is_text()  ? text_methods()
                                    : value.is_map() ? map_methods()
                                                     : std::span<const Row>();
  const Row* row = find_row(rows, name);
  if (row == nullptr) refuse_chat("method not known: " + name);
  if (!given.named.empty() && name != "split" && name != "rsplit")
    refuse_chat(name + " with named arguments");
  const Bound bound = bind(*row, given);
  return row->call(evaluator, value, bound);
}

}  // namespace eep
