#include "loaders/text/chat_lexer.h"

#include <array>
#include <cstdlib>

#include "loaders/formats/unicode.h"

namespace eep {

namespace {

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// One sign for the end of a line; one at the end is dropped.
std::string source_of(const std::string& text) {
  std::string source;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    source += text[i] == '\r' ? '\n' : text[i];
  }
  if (source.ends_with('\n')) source.pop_back();
  return source;
}

class Lexer {
 public:
  explicit Lexer(const std::string& text) : text_(source_of(text)) {}

  std::vector<ChatToken> run() {
    while (at_ < text_.size()) {
      const size_t begin = next_tag();
      if (begin == text_.size()) {
        add(ChatTokenKind::kData, text_.substr(at_));
        break;
      }
      data_before(begin);
      const char kind = text_[begin + 1];
      at_ = begin + 2;
      if (at_ < text_.size() && (text_[at_] == '-' || text_[at_] == '+')) ++at_;
      if (kind == '#') {
        comment();
      } else {
        tag(kind == '{');
      }
      line_starts_ = text_[at_ - 1] == '\n';
    }
    add(ChatTokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void add(ChatTokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), {}}); }
  bool starts(std::string_view sign) const { return text_.compare(at_, sign.size(), sign) == 0; }

  size_t next_tag() const {
    for (size_t at = at_; (at = text_.find('{', at)) != std::string::npos; ++at) {
      if (at + 1 < text_.size() && std::string_view("{%#").find(text_[at + 1]) != std::string_view::npos)
        return at;
    }
    return text_.size();
  }

  void data_before(size_t begin) {
    std::string data = text_.substr(at_, begin - at_);
    const char sign = begin + 2 < text_.size() ? text_[begin + 2] : '\0';
    if (sign == '-') {
      data = chat_strip(data, false, true);
    } else if (sign != '+' && text_[begin + 1] != '{') {
      const size_t line = data.rfind('\n') + 1;  // 0: none
      const bool blank = line < data.size() && chat_strip(data.substr(line), true, false).empty();
      if (blank && (line > 0 || line_starts_)) data.erase(line);
    }
    if (!data.empty()) add(ChatTokenKind::kData, data);
  }

  void skip_blanks() {
    while (at_ < text_.size()) {
      const CodePoint point = decode_utf8(text_, at_);
      if (!is_python_space(point.value)) return;
      at_ += point.bytes;
    }
  }

  // The end of a tag here, with what it takes away behind it.
  bool accept_end(std::string_view end) {
    const bool dash = starts("-") && text_.compare(at_ + 1, end.size(), end) == 0;
    const bool plus = starts("+") && text_.compare(at_ + 1, end.size(), end) == 0 && end != "}}";
    if (!dash && !plus && !starts(end)) return false;
    at_ += end.size() + (dash || plus ? 1 : 0);
    if (dash) skip_blanks();
    if (!dash && !plus && end != "}}" && starts("\n")) ++at_;
    return true;
  }

  void comment() {
    for (; at_ < text_.size(); ++at_) {
      if (accept_end("#}")) return;
    }
    refuse_chat("a comment without its end");
  }

  void tag(bool print) {
    const size_t begin = at_;
    add(print ? ChatTokenKind::kPrintBegin : ChatTokenKind::kBlockBegin, "");
    std::string open;  // brackets
    for (;;) {
      skip_blanks();
      if (at_ >= text_.size()) refuse_chat("a tag without its end: " + printable(text_.substr(begin)));
      if (open.empty() && accept_end(print ? "}}" : "%}")) break;
      token(&open);
    }
    add(print ? ChatTokenKind::kPrintEnd : ChatTokenKind::kBlockEnd, "");
  }

  void token(std::string* open) {
    const char c = text_[at_];
    if (is_digit(c)) return number();
    if (c == '\'' || c == '"') return add(ChatTokenKind::kText, quoted(c));
    if (is_name_start(c)) {
      const size_t begin = at_;
      while (at_ < text_.size() && (is_name_start(text_[at_]) || is_digit(text_[at_]))) ++at_;
      return add(ChatTokenKind::kName, text_.substr(begin, at_ - begin));
    }
    static constexpr std::array kSigns{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                       "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    for (const char* sign : kSigns) {
      if (!starts(sign)) continue;
      at_ += std::string_view(sign).size();
      if (c == '(' || c == '[' || c == '{') *open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (!open->ends_with(c)) refuse_chat(std::string("a bracket that was not opened: ") + c);
        open->pop_back();
      }
      return add(ChatTokenKind::kSign, sign);
    }
    refuse_chat("not understood: " + printable(text_.substr(at_)));
  }

  void number() {
    const size_t begin = at_;
    const auto digits = [&] {
      const size_t from = at_;
      while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
      return at_ > from;
    };
    digits();
    const bool zero = text_[begin] == '0' && at_ - begin > 1;
    bool real = false;
    if (starts(".") && at_ + 1 < text_.size() && is_digit(text_[at_ + 1])) {
      ++at_;
      real = digits();
    }
    const bool follows = at_ < text_.size() && (is_name_start(text_[at_]) || text_[at_] == '_');
    if (zero || follows || at_ - begin > 15)
      refuse_chat("number not understood: " + printable(text_.substr(begin)));
    const std::string written = text_.substr(begin, at_ - begin);
    ChatToken token{ChatTokenKind::kNumber, written, {}};
    token.number = real ? ChatValue(std::strtod(written.c_str(), nullptr))
                        : ChatValue(static_cast<int64_t>(std::strtoll(written.c_str(), nullptr, 10)));
    tokens_.push_back(std::move(token));
  }

  std::string quoted(char quote) {
    std::string value;
    for (++at_; at_ < text_.size() && text_[at_] != quote;) {
      if (text_[at_] != '\\') {
        value += text_[at_++];
        continue;
      }
      if (++at_ < text_.size()) escape(&value);
    }
    if (at_ >= text_.size()) refuse_chat("a text without its closing quote");
    ++at_;
    return value;
  }

  // Python's, behind the backslash.
  void escape(std::string* value) {
    static constexpr std::string_view kLetters = "ntrabfv\\'\"", kMeanings = "\n\t\r\a\b\f\v\\'\"";
    const char c = text_[at_++];
    if (const size_t letter = kLetters.find(c); letter != std::string_view::npos) {
      *value += kMeanings[letter];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      code(value, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else if (c >= '0' && c <= '7') {
      uint32_t octal = static_cast<uint32_t>(c - '0');
      for (int i = 0; i < 2 && at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '7'; ++i)
        octal = octal * 8 + static_cast<uint32_t>(text_[at_++] - '0');
      append_utf8(*value, octal);
    } else if (c == 'N' || static_cast<unsigned char>(c) >= 0x80) {
      refuse_chat("escape not known: \\" + std::string(1, c == 'N' ? c : '?'));
    } else if (c != '\n') {  // a backslash that escapes nothing stays
      *value += '\\';
      *value += c;
    }
  }

  void code(std::string* value, size_t digits) {
    uint32_t point = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const char c = at_ < text_.size() ? text_[at_] : '\0';
      const int digit = is_digit(c)            ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) refuse_chat("an escape that lacks digits");
      point = point << 4 | static_cast<uint32_t>(digit);
    }
    if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) refuse_chat("an escape of no character");
    append_utf8(*value, point);
  }

  std::string text_;
  size_t at_ = 0;
  bool line_starts_ = true;
  std::vector<ChatToken> tokens_;
};

}  // namespace

std::vector<ChatToken> chat_tokens(const std::string& text) { return Lexer(text).run(); }

}  // namespace eep
