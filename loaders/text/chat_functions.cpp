#include "loaders/text/chat_functions.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "loaders/formats/unicode.h"
#include "loaders/text/chat_format.h"
#include "loaders/text/chat_rows.h"

namespace eep {

using namespace chat;

namespace {

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

bool ends(const ChatValue& whole, const ChatValue& part, bool front) {
  if (part.kind == ChatKind::kTuple) {
    return std::any_of(part.values().begin(), part.values().end(),
                       [&](const ChatValue& one) { return ends(whole, one, front); });
  }
  const std::string& text = text_of(part, front ? "startswith" : "endswith");
  return front ? whole.text.starts_with(text) : whole.text.ends_with(text);
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
      {"rfind",
       {"sub"},
       [](auto&, const auto& v, const auto& a) -> ChatValue {
         const size_t at = v.text.rfind(text_of(a[0], "rfind"));
         return at == std::string::npos ? int64_t{-1}
                                        : static_cast<int64_t>(chat_characters(v.text.substr(0, at)).size());
       }},
      {"count",
       {"sub"},
       [](auto&, const auto& v, const auto& a) -> ChatValue {
         const std::string& part = text_of(a[0], "count");
         if (part.empty()) refuse_chat("count of an empty text");
         int64_t count = 0;
         for (size_t at = 0; (at = v.text.find(part, at)) != std::string::npos; at += part.size()) ++count;
         return count;
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

std::span<const Row> map_methods() {
  static const std::vector<Row> kRows{
      {"get",
       {"key", "default"},
       [](auto&, const auto& v, const auto& a) {
         if (a[0].is_undefined() || a[0].items || a[0].is_map())
           refuse_chat("get with something that is no key");
         const ChatValue* found = v.find_key(a[0]);
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

}  // namespace

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
        "strftime_now: the prompt would change with the date (a variable of this name says what it gives, or "
        "set the one that it fills, such as date_string)",
        "--chat-set strftime_now=2025-06-28, or --template chatml, mistral-v1 or none");
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
  if (value.is_text() && name == "format") return format_fields(value.text, given);
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
