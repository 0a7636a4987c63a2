#include "loaders/text/chat_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loaders/text/chat_rows.h"

namespace eep::chat {
namespace {

constexpr int64_t kMostWidth = 1000;

struct Spec {
  std::string fill = " ";
  char align = 0;  // < > ^ or =: the sign, then the fill
  char sign = '-';
  int64_t width = 0, precision = -1;
  char type = 0;  // s, d, f; 0: none given
};

// A number of at most four digits at text[at], which moves behind it; -1 where there is none.
int64_t digits(const std::string& text, size_t* at) {
  const size_t begin = *at;
  while (*at < text.size() && text[*at] >= '0' && text[*at] <= '9') ++*at;
  if (*at == begin) return -1;
  const int64_t number = *at - begin > 4 ? kMostWidth + 1 : std::stoll(text.substr(begin, *at - begin));
  if (number > kMostWidth) refuse_chat("format with a width or precision above 1000");
  return number;
}

bool is_align(const std::string& sign) { return sign == "<" || sign == ">" || sign == "^" || sign == "="; }

// [[fill]align][sign][0][width][.precision][type]
Spec parse_spec(const std::string& text) {
  Spec spec;
  const std::vector<std::string> signs = chat_characters(text);
  size_t at = 0;
  bool filled = false;
  if (signs.size() > 1 && is_align(signs[1])) {
    spec.fill = signs[0];
    filled = true;
    spec.align = signs[1][0];
    at = signs[0].size() + 1;
  } else if (!signs.empty() && is_align(signs[0])) {
    spec.align = signs[0][0];
    at = 1;
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (at < text.size() && text[at] == '0') {
    if (!filled) spec.fill = "0";
    if (spec.align == 0) spec.align = '=';
    ++at;
  }
  spec.width = std::max<int64_t>(digits(text, &at), 0);
  if (at < text.size() && text[at] == '.') {
    ++at;
    spec.precision = digits(text, &at);
    if (spec.precision < 0) refuse_chat("format with a point and no precision");
  }
  if (at < text.size()) spec.type = text[at++];
  const bool known = spec.type == 0 || spec.type == 's' || spec.type == 'd' || spec.type == 'f';
  if (at != text.size() || !known) refuse_chat("format with " + printable(text) + " (expected s, d or f)");
  return spec;
}

std::string padded(const std::string& sign, const std::string& body, const Spec& spec, char usual) {
  const auto length = static_cast<int64_t>(chat_characters(sign + body).size());
  std::string left, right;
  const char align = spec.align == 0 ? usual : spec.align;
  for (int64_t i = length; i < spec.width; ++i) {
    const bool before = align == '>' || align == '=' || (align == '^' && (i - length) % 2 == 1);
    (before ? left : right) += spec.fill;
  }
  return align == '=' ? sign + left + body : left + sign + body + right;
}

// A number in decimal digits, its sign apart.
std::string digits_of(const ChatValue& value, const Spec& spec, std::string* sign) {
  std::string body;
  if (spec.type == 'f') {
    body = fmt::format("{:.{}f}", value.number(), spec.precision < 0 ? 6 : static_cast<int>(spec.precision));
  } else {
    if (spec.precision >= 0) refuse_chat("format of a number with a precision and no f");
    body = chat_repr(value.is_integer() ? ChatValue(value.integer) : value);
  }
  if (!std::isfinite(value.number())) refuse_chat("format of a number that is not finite");
  *sign = spec.sign == '-' ? "" : std::string(1, spec.sign);
  if (!body.starts_with('-')) return body;
  *sign = "-";
  return body.substr(1);
}

std::string formatted(const ChatValue& value, const std::string& given) {
  if (value.is_undefined()) refuse_chat("format of an undefined value");
  if (given.empty()) return chat_text(value);
  const Spec spec = parse_spec(given);
  if (value.is_text()) {
    if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.sign != '-')
      refuse_chat("format of a text with " + printable(given));
    std::string text;
    for (const std::string& sign : chat_characters(value.text)) {
      if (spec.precision == 0) break;
      text += sign;
      if (spec.precision > 0 && static_cast<int64_t>(chat_characters(text).size()) == spec.precision) break;
    }
    return padded("", text, spec, '<');
  }
  const bool number = value.kind == ChatKind::kReal || value.kind == ChatKind::kInt;
  if (!number || spec.type == 's' || (spec.type == 'd' && value.kind == ChatKind::kReal))
    refuse_chat("format of this value with " + printable(given));
  std::string sign;
  const std::string body = digits_of(value, spec, &sign);
  return padded(sign, body, spec, '>');
}

// The fields between braces of str.format, in turn.
class Fields {
 public:
  explicit Fields(const ChatArguments& given) : given_(given) {}

  std::string fill(const std::string& field) {
    const size_t colon = field.find(':');
    std::string name = field.substr(0, colon);
    const std::string spec = colon == std::string::npos ? "" : field.substr(colon + 1);
    bool repr = false;
    if (const size_t mark = name.find('!'); mark != std::string::npos) {
      const std::string conversion = name.substr(mark + 1);
      if (conversion != "r" && conversion != "s") refuse_chat("format with !" + printable(conversion));
      repr = conversion == "r";
      name.resize(mark);
      const ChatValue& value = value_of(name);
      if (value.is_undefined()) refuse_chat("format of an undefined value");
      return formatted(repr ? chat_repr(value) : chat_text(value), spec);
    }
    return formatted(value_of(name), spec);
  }

 private:
  const ChatValue& value_of(const std::string& name) {
    if (name.find_first_of(".[") != std::string::npos)
      refuse_chat("format with an attribute or element: " + name);
    const bool numbered = !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
    if (name.empty() || numbered) {
      (name.empty() ? counted_ : numbered_) = true;
      if (counted_ && numbered_) refuse_chat("format with fields that are numbered and some that are not");
      size_t at = 0;
      const auto place = static_cast<size_t>(numbered ? digits(name, &at) : next_++);
      if (place >= given_.values.size()) refuse_chat("format with fewer values than fields");
      return given_.values[place];
    }
    const auto named = std::find_if(given_.named.begin(), given_.named.end(),
                                    [&](const auto& each) { return each.first == name; });
    if (named == given_.named.end()) refuse_chat("format without a value for " + printable(name));
    return named->second;
  }

  const ChatArguments& given_;
  int64_t next_ = 0;
  bool counted_ = false, numbered_ = false;
};

}  // namespace

std::string format_fields(const std::string& text, const ChatArguments& given) {
  Fields fields(given);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char sign = text[at];
    if (sign != '{' && sign != '}') {
      out += text[at++];
    } else if (at + 1 < text.size() && text[at + 1] == sign) {
      out += sign;
      at += 2;
    } else {
      const size_t end = text.find('}', at);
      if (sign == '}' || end == std::string::npos) refuse_chat("format with a single brace");
      const std::string field = text.substr(at + 1, end - at - 1);
      if (field.find('{') != std::string::npos) refuse_chat("format with fields in fields");
      out += fields.fill(field);
      at = end + 1;
    }
    if (out.size() > kMaxText) refuse_chat("text too long");
  }
  return out;
}

std::string format_percent(const std::string& text, const ChatValue& value) {
  const bool tuple = value.kind == ChatKind::kTuple;
  size_t next = 0;
  bool named = false;
  std::string out;
  const auto take = [&]() -> ChatValue {
    if (tuple ? next >= value.values().size() : next > 0) refuse_chat("% with fewer values than fields");
    return tuple ? value.values()[next++] : (++next, value);
  };
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '%') {
      out += text[at++];
      continue;
    }
    if (++at < text.size() && text[at] == '%') {
      out += text[at++];
      continue;
    }
    ChatValue one;
    if (at < text.size() && text[at] == '(') {
      const size_t end = text.find(')', at);
      if (end == std::string::npos || !value.is_map()) refuse_chat("% with a name and no mapping");
      const ChatValue* found = value.find(text.substr(at + 1, end - at - 1));
      if (found == nullptr)
        refuse_chat("% without a value for " + printable(text.substr(at + 1, end - at - 1)));
      one = *found;
      named = true;
      at = end + 1;
    } else {
      one = take();
    }
    bool left = false, plus = false, zero = false;
    for (; at < text.size() && (text[at] == '-' || text[at] == '+' || text[at] == '0'); ++at)
      (text[at] == '-' ? left : text[at] == '+' ? plus : zero) = true;
    std::string spec;
    while (at < text.size() && ((text[at] >= '0' && text[at] <= '9') || text[at] == '.')) spec += text[at++];
    const char type = at < text.size() ? text[at++] : ' ';
    if (type != 's' && type != 'd' && type != 'i' && type != 'f')
      refuse_chat(std::string("% with the type ") + type + " (expected s, d or f)");
    if (type == 's') {
      if (one.is_undefined() || plus || zero) refuse_chat("% of this value with s");
      out += formatted(chat_text(one), (left ? "<" : ">") + spec + "s");
    } else {
      if (!one.is_number()) refuse_chat("% of something that is no number");
      if (one.kind == ChatKind::kBool) one = ChatValue(one.integer);
      if (type != 'f' && one.kind == ChatKind::kReal) {
        if (std::fabs(one.real) > 9e15) refuse_chat("number too large");
        one = ChatValue(static_cast<int64_t>(one.real));
      }
      if (type != 'f' && spec.find('.') != std::string::npos)
        refuse_chat("% of a whole number with a precision");
      const std::string flags = std::string(left ? "<" : "") + (plus ? "+" : "") + (zero && !left ? "0" : "");
      out += formatted(one, flags + spec + (type == 'f' ? "f" : "d"));
    }
    if (out.size() > kMaxText) refuse_chat("text too long");
  }
  if (named || value.is_map()) return out;
  if (tuple ? next < value.values().size() : next == 0) refuse_chat("% with more values than fields");
  return out;
}

}  // namespace eep::chat
