// The filters and tests of chat templates.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <span>

#include "loaders/text/chat_format.h"
#include "loaders/text/chat_rows.h"

namespace eep {

using namespace chat;

namespace {

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

// A mapping's pairs by their keys, which case tells apart only where that is asked for.
ChatValue sorted_pairs(const ChatValue& map, const Bound& given) {
  if (!map.is_map()) refuse_chat("dictsort of something that is no mapping");
  if (!given[1].is_undefined() && !(given[1].is_text() && given[1].text == "key"))
    refuse_chat("dictsort by something else than the key");
  std::vector<std::pair<ChatValue, ChatValue>> keyed;
  const ChatValue in_order = pairs_of(map, ChatKind::kList);  // the loop reads what it holds
  for (const ChatValue& pair : in_order.values()) {
    const ChatValue& key = pair.values()[0];
    keyed.emplace_back(key.is_text() && !chat_truth(given[0]) ? ChatValue(cased(key.text, false)) : key,
                       pair);
  }
  const bool reverse = chat_truth(given[2]);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    const int order = chat_compare(a.first, b.first);
    return reverse ? order > 0 : order < 0;
  });
  std::vector<ChatValue> pairs;
  for (auto& [key, pair] : keyed) pairs.push_back(std::move(pair));
  return list_of(std::move(pairs));
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
  if (!given[2].is_undefined() && !given[2].is_none()) {
    const bool pair = (given[2].kind == ChatKind::kTuple || given[2].kind == ChatKind::kList) &&
                      given[2].values().size() == 2;
    if (!pair) refuse_chat("tojson with separators that are no pair");
    style.comma = text_of(given[2].values()[0], "tojson");
    style.colon = text_of(given[2].values()[1], "tojson");
  } else if (style.indent >= 0) {
    style.comma = ",";
  }
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
      {"dictsort",
       {"case_sensitive", "by", "reverse"},
       [](auto&, const auto& v, const auto& a) { return sorted_pairs(v, a); }},
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

// Filters that take any arguments, or a filter or a test with its own, or tell apart what is given and
// undefined.
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
  if (name == "format") {  // as the % of a tuple, or of a mapping
    if (!given.values.empty() && !given.named.empty()) refuse_chat("format with values and names");
    ChatValue values = list_of(given.values, ChatKind::kTuple);
    if (!given.named.empty()) values = ChatValue::object(ChatKind::kMap);
    for (const auto& [key, own] : given.named) values.set(key, own);
    return ChatValue(format_percent(chat_text(value), values));
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

}  // namespace eep
