#include "loaders/text/chat_value.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "loaders/formats/unicode.h"

namespace eep {

namespace {

constexpr int kMaxNesting = 32;
constexpr size_t kMaxText = size_t{1} << 24;

int nesting(const ChatValue& value) {
  if (value.kind == ChatKind::kNamespace || value.kind == ChatKind::kLoop)
    refuse_chat("a namespace or a loop inside another value");
  return value.items ? value.items->depth : value.entries ? value.entries->depth : 0;
}

int deeper(int depth, const ChatValue& value) {
  depth = std::max(depth, nesting(value) + 1);
  if (depth > kMaxNesting) refuse_chat("values nested too deep");
  return depth;
}

// Python's repr of a float.
std::string real_text(double value) {
  if (!std::isfinite(value)) refuse_chat("a number that is not finite");
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string scientific(buffer, end);
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return scientific;
  const auto stop = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  const std::string fixed(buffer, stop);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

void escape_ascii(std::string& out, uint32_t value) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const auto unit = [&](uint32_t code) {
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[code >> shift & 15];
  };
  if (value < 0x10000) return unit(value);
  unit(0xd800 + ((value - 0x10000) >> 10));
  unit(0xdc00 + ((value - 0x10000) & 0x3ff));
}

void quote_json(std::string& out, const std::string& text, bool ascii) {
  static constexpr std::string_view kSigns = "\"\\\n\r\t\b\f", kLetters = "\"\\nrtbf";
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    const size_t sign = point.bytes == 1 ? kSigns.find(text[at]) : std::string_view::npos;
    if (sign != std::string_view::npos) {
      out += '\\';
      out += kLetters[sign];
    } else if (point.value != kInvalidCodePoint && (point.value < 0x20 || (ascii && point.value > 0x7e))) {
      // json.dumps keeps DEL without ensure_ascii and with it
      if (point.value == 0x7f) {
        out += '\x7f';
      } else {
        escape_ascii(out, point.value);
      }
    } else {
      out += text.substr(at, point.bytes);
    }
    at += point.bytes;
  }
  out += '"';
}

class JsonWriter {
 public:
  explicit JsonWriter(const ChatJsonStyle& style) : style_(style) {}

  std::string write(const ChatValue& value) {
    add(value, 0);
    return std::move(out_);
  }

 private:
  void line(int depth) {
    if (style_.indent >= 0) out_ += "\n" + std::string(static_cast<size_t>(style_.indent * depth), ' ');
  }
  void comma() { out_ += style_.comma; }

  void add(const ChatValue& value, int depth) {
    if (out_.size() > kMaxText) refuse_chat("text too long");
    switch (value.kind) {
      case ChatKind::kNone:
        out_ += "null";
        return;
      case ChatKind::kBool:
        out_ += value.integer != 0 ? "true" : "false";
        return;
      case ChatKind::kInt:
        out_ += std::to_string(value.integer);
        return;
      case ChatKind::kReal:
        out_ += real_text(value.real);
        return;
      case ChatKind::kText:
        return quote_json(out_, value.text, style_.ascii);
      case ChatKind::kList:
      case ChatKind::kTuple:
        return add_list(value, depth);
      case ChatKind::kMap:
        return add_map(value, depth);
      default:
        refuse_chat("tojson of a value that JSON does not know");
    }
  }

  void add_list(const ChatValue& value, int depth) {
    if (value.values().empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    bool first = true;
    for (const ChatValue& item : value.values()) {
      if (!std::exchange(first, false)) comma();
      line(depth + 1);
      add(item, depth + 1);
    }
    line(depth);
    out_ += ']';
  }

  void add_map(const ChatValue& value, int depth) {
    auto entries = value.entries->entries;
    if (entries.empty()) {
      out_ += "{}";
      return;
    }
    if (style_.sorted) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return chat_compare(a.first, b.first) < 0; });
    }
    out_ += '{';
    bool first = true;
    for (const auto& [key, item] : entries) {
      if (!std::exchange(first, false)) comma();
      line(depth + 1);
      if (key.is_text()) {
        add(key, depth);
      } else {  // JSON has no other keys than texts
        out_ += '"';
        add(key, depth);
        out_ += '"';
      }
      out_ += style_.colon;
      add(item, depth + 1);
    }
    line(depth);
    out_ += '}';
  }

  ChatJsonStyle style_;
  std::string out_;
};

std::string text_repr(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    const char c = text[at];
    if (point.bytes > 1 || point.value >= 0x7f) {
      const auto category = point.value == kInvalidCodePoint
                                ? UTF8PROC_CATEGORY_CN
                                : utf8proc_category(static_cast<utf8proc_int32_t>(point.value));
      // Python writes what it cannot print as an escape; which that is depends on its tables.
      if (category == UTF8PROC_CATEGORY_CN || category >= UTF8PROC_CATEGORY_ZS)
        refuse_chat("the repr of a text with signs that are not printed");
      out += text.substr(at, point.bytes);
    } else if (c == quote || c == '\\') {
      out += std::string("\\") + c;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (point.value < 0x20) {
      static constexpr char kDigits[] = "0123456789abcdef";
      out += "\\x";
      out += kDigits[point.value >> 4];
      out += kDigits[point.value & 15];
    } else {
      out += c;
    }
    at += point.bytes;
  }
  return out + quote;
}

}  // namespace

void refuse_chat(const std::string& what, const std::string& hint) {
  const bool line = what.size() < 400 && what.find('\n') == std::string::npos;
  throw Error(ExitCode::kData, "chat template", line ? what : printable(what), hint);
}

ChatValue ChatValue::none() {
  ChatValue value;
  value.kind = ChatKind::kNone;
  return value;
}

ChatValue ChatValue::function(std::string name) {
  ChatValue value;
  value.kind = ChatKind::kFunction;
  value.text = std::move(name);
  return value;
}

ChatValue ChatValue::sequence(ChatKind kind, std::vector<ChatValue> values) {
  int depth = 1;
  for (const ChatValue& value : values) depth = deeper(depth, value);
  ChatValue made;
  made.kind = kind;
  made.items = std::make_shared<ChatItems>(ChatItems{std::move(values), false, depth});
  return made;
}

ChatValue ChatValue::object(ChatKind kind) {
  ChatValue made;
  made.kind = kind;
  made.entries = std::make_shared<ChatEntries>();
  return made;
}

const ChatValue* ChatValue::find(std::string_view key) const {
  if (!entries) return nullptr;
  for (const auto& [known, value] : entries->entries) {
    if (known.is_text() && known.text == key) return &value;
  }
  return nullptr;
}

const ChatValue* ChatValue::find_key(const ChatValue& key) const {
  if (!entries || !key.is_key()) return nullptr;
  for (const auto& [known, value] : entries->entries) {
    if (chat_equal(known, key)) return &value;
  }
  return nullptr;
}

void ChatValue::set(const ChatValue& key, ChatValue value) {
  if (!key.is_key()) refuse_chat("a mapping with a key that is no text, number, boolean or none");
  entries->depth = deeper(entries->depth, value);
  for (auto& [known, there] : entries->entries) {
    if (!chat_equal(known, key)) continue;
    there = std::move(value);
    return;
  }
  entries->entries.emplace_back(key, std::move(value));
}

const std::vector<ChatValue>& ChatValue::values() const { return items->values; }

ChatValue chat_value(const Json& json) {
  if (json.is_null()) return ChatValue::none();
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX})
    refuse_chat("number too large");
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_object()) {
    ChatValue map = ChatValue::object(ChatKind::kMap);
    for (const auto& [key, item] : json.items()) map.set(key, chat_value(item));
    return map;
  }
  std::vector<ChatValue> values;
  for (const Json& item : json) values.push_back(chat_value(item));
  return ChatValue::sequence(ChatKind::kList, std::move(values));
}

bool chat_truth(const ChatValue& value) {
  switch (value.kind) {
    case ChatKind::kUndefined:
    case ChatKind::kNone:
      return false;
    case ChatKind::kBool:
    case ChatKind::kInt:
      return value.integer != 0;
    case ChatKind::kReal:
      return value.real != 0;
    case ChatKind::kText:
      return !value.text.empty();
    case ChatKind::kList:
    case ChatKind::kTuple:
    case ChatKind::kRange:
    case ChatKind::kView:
      return !value.values().empty();
    case ChatKind::kMap:
      return !value.entries->entries.empty();
    default:
      return true;
  }
}

bool chat_equal(const ChatValue& a, const ChatValue& b) {
  if (a.is_integer() && b.is_integer()) return a.integer == b.integer;
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case ChatKind::kUndefined:
    case ChatKind::kNone:
      return true;
    case ChatKind::kText:
    case ChatKind::kFunction:
      return a.text == b.text;
    case ChatKind::kMacro:
      return a.integer == b.integer;
    case ChatKind::kList:
    case ChatKind::kTuple:
    case ChatKind::kRange:
      return std::equal(a.values().begin(), a.values().end(), b.values().begin(), b.values().end(),
                        chat_equal);
    case ChatKind::kMap:
      if (a.entries->entries.size() != b.entries->entries.size()) return false;
      return std::all_of(a.entries->entries.begin(), a.entries->entries.end(), [&](const auto& entry) {
        const ChatValue* other = b.find_key(entry.first);
        return other != nullptr && chat_equal(entry.second, *other);
      });
    default:
      refuse_chat("a comparison of views, iterators, namespaces or loops");
  }
}

int chat_compare(const ChatValue& a, const ChatValue& b) {
  if (a.is_text() && b.is_text()) return a.text.compare(b.text);  // by code points, as bytes are ordered
  if (!a.is_number() || !b.is_number()) refuse_chat("a comparison of values that have no order");
  return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
}

std::string chat_text(const ChatValue& value) {
  if (value.is_undefined()) return {};
  return value.is_text() ? value.text : chat_repr(value);
}

std::string chat_repr(const ChatValue& value) {
  switch (value.kind) {
    case ChatKind::kUndefined:
      return "Undefined";
    case ChatKind::kNone:
      return "None";
    case ChatKind::kBool:
      return value.integer != 0 ? "True" : "False";
    case ChatKind::kInt:
      return std::to_string(value.integer);
    case ChatKind::kReal:
      return real_text(value.real);
    case ChatKind::kText:
      return text_repr(value.text);
    case ChatKind::kList:
    case ChatKind::kTuple:
    case ChatKind::kMap:
      break;
    default:
      refuse_chat("a view, an iterator, a namespace, a function or a loop as text");
  }
  std::string out;
  const auto add = [&](const std::string& part) {
    out += (out.empty() ? "" : ", ") + part;
    if (out.size() > kMaxText) refuse_chat("text too long");
  };
  if (value.is_map()) {
    for (const auto& [key, item] : value.entries->entries) add(chat_repr(key) + ": " + chat_repr(item));
    return "{" + out + "}";
  }
  for (const ChatValue& item : value.values()) add(chat_repr(item));
  if (value.kind == ChatKind::kList) return "[" + out + "]";
  return "(" + out + (value.values().size() == 1 ? ",)" : ")");
}

std::string chat_json(const ChatValue& value, const ChatJsonStyle& style) {
  return JsonWriter(style).write(value);
}

const std::vector<ChatValue>& iterate_chat(const ChatValue& value, std::vector<ChatValue>* storage) {
  storage->clear();
  if (value.kind == ChatKind::kIterator && std::exchange(value.items->taken, true))
    refuse_chat("an iterator that is read twice");
  if (value.items) return value.items->values;
  if (value.is_text()) {
    for (std::string& point : chat_characters(value.text)) storage->emplace_back(std::move(point));
  } else if (value.is_map()) {
    for (const auto& [key, item] : value.entries->entries) storage->emplace_back(key);
  } else if (!value.is_undefined()) {
    refuse_chat("a loop over something that is no list");
  }
  return *storage;
}

std::vector<std::string> chat_characters(std::string_view text) {
  std::vector<std::string> points;
  for (size_t at = 0; at < text.size(); at += points.back().size())
    points.emplace_back(text.substr(at, decode_utf8(text, at).bytes));
  return points;
}

bool is_python_space(uint32_t code_point) {
  return (code_point >= 9 && code_point <= 13) || (code_point >= 0x1c && code_point <= 0x20) ||
         code_point == 0x85 || code_point == 0xa0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200a) || code_point == 0x2028 || code_point == 0x2029 ||
         code_point == 0x202f || code_point == 0x205f || code_point == 0x3000;
}

std::string chat_strip(std::string_view text, bool left, bool right, const std::string* signs) {
  std::vector<std::string> removed;
  if (signs != nullptr) removed = chat_characters(*signs);
  const auto goes = [&](size_t begin, size_t end) {
    if (signs == nullptr) return is_python_space(decode_utf8(text, begin).value);
    return std::find(removed.begin(), removed.end(), text.substr(begin, end - begin)) != removed.end();
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    const size_t next = begin + decode_utf8(text, begin).bytes;
    if (!goes(begin, next)) break;
    begin = next;
  }
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && end - last < 4 && (static_cast<unsigned char>(text[last]) & 0xc0) == 0x80) --last;
    if (last + decode_utf8(text, last).bytes != end) last = end - 1;  // not UTF-8
    if (!goes(last, end)) break;
    end = last;
  }
  return std::string(text.substr(begin, end - begin));
}

}  // namespace eep
