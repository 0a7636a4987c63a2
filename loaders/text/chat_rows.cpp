#include "loaders/text/chat_rows.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "loaders/formats/unicode.h"

namespace eep::chat {

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

ChatValue list_of(std::vector<ChatValue> values, ChatKind kind) {
  return ChatValue::sequence(kind, std::move(values));
}

std::vector<ChatValue> values_of(ChatEvaluator& evaluator, const ChatValue& value) {
  std::vector<ChatValue> storage;
  const std::vector<ChatValue>& values = iterate_chat(value, &storage);
  evaluator.budget().take(static_cast<int64_t>(values.size()));
  return values;
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

ChatValue stripped(const ChatValue& value, const ChatValue& signs, bool left, bool right) {
  if (signs.is_none() || signs.is_undefined()) return chat_strip(value.text, left, right);
  const std::string& removed = text_of(signs, "strip");
  return chat_strip(value.text, left, right, &removed);
}

int64_t count_or(const ChatValue& value, const char* who) {
  return value.is_undefined() ? -1 : integer_of(value, who);
}

ChatValue pairs_of(const ChatValue& map, ChatKind kind) {
  std::vector<ChatValue> pairs;
  for (const auto& [key, value] : map.entries->entries)
    pairs.push_back(list_of({key, value}, ChatKind::kTuple));
  return list_of(std::move(pairs), kind);
}

}  // namespace eep::chat
