#include "loaders/tasks/extract.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "loaders/formats/unicode.h"

namespace eep {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// What Python calls white space.
bool is_blank(uint32_t point) {
  return (point >= 0x1c && point <= 0x1f) ||
         (point != kInvalidCodePoint && classify(point) == CharClass::kSpace);
}

std::string first_capital(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    if (point.value != kInvalidCodePoint &&
        utf8proc_category(static_cast<utf8proc_int32_t>(point.value)) == UTF8PROC_CATEGORY_LU) {
      return std::string(text.substr(at, point.bytes));
    }
    at += point.bytes;
  }
  return "";
}

std::string last_number(std::string_view given, bool thousands) {
  given = given.substr(0, given.find("Question:"));
  const std::string text = thousands ? without_thousands(given) : std::string(given);
  std::string last = "NULL";
  const auto digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  for (size_t i = 0; i < text.size();) {
    const bool minus = text[i] == '-';
    size_t at = i + (minus ? 1 : 0);
    if (thousands && minus && at < text.size() && text[at] == '$') ++at;  // -$70
    const size_t begin = at;
    if (!digit(at)) {
      ++i;
      continue;
    }
    while (digit(at)) ++at;
    if (at < text.size() && text[at] == '.' && digit(at + 1)) {
      ++at;
      while (digit(at)) ++at;
    }
    last = (minus ? "-" : "") + text.substr(begin, at - begin);
    i = at;
  }
  return last;
}

// Full-width commas and colons count as their ASCII forms, every other white space as a blank.
std::string plain_separators(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    if (point.value == 0xff0c || point.value == 0xff1a) {
      out += point.value == 0xff0c ? ',' : ':';
    } else if (is_blank(point.value) && !is_space(text[at])) {
      out += ' ';
    } else {
      out += text.substr(at, point.bytes);
    }
    at += point.bytes;
  }
  return out;
}

// The rules of first_option on one text.
class OptionFinder {
 public:
  OptionFinder(std::string text, const std::string& options) : text_(std::move(text)), options_(options) {
    end_ = text_.size() - (!text_.empty() && text_.back() == '\n' ? 1 : 0);
  }

  std::string find() const {
    using Rule = std::string (OptionFinder::*)() const;
    for (Rule rule :
         {&OptionFinder::at_start, &OptionFinder::at_end, &OptionFinder::phrase, &OptionFinder::marked,
          &OptionFinder::bounded, &OptionFinder::after_one, &OptionFinder::colon, &OptionFinder::anywhere}) {
      const std::string found = (this->*rule)();
      if (!found.empty()) return found;
    }
    return "";
  }

 private:
  char at(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  bool is_option(size_t i) const { return i < text_.size() && options_.find(text_[i]) != std::string::npos; }
  bool separator(size_t i) const {
    return i < text_.size() && (is_space(text_[i]) || text_[i] == ':' || text_[i] == ',');
  }
  // The alphabetically first option inside a matched span.
  std::string among(size_t begin, size_t end) const {
    for (char option : options_) {
      if (std::string_view(text_).substr(begin, end - begin).find(option) != std::string_view::npos)
        return {option};
    }
    return "";
  }

  std::string at_start() const { return is_option(0) && separator(1) ? std::string{text_[0]} : ""; }
  std::string at_end() const {
    for (size_t i = 0; i + 1 < text_.size(); ++i) {
      if (!separator(i) || !is_option(i + 1)) continue;
      const size_t after = i + 2 + (at(i + 2) == '.' || at(i + 2) == ',' ? 1 : 0);
      if (after == text_.size() || after == end_ || i + 2 == end_) return {text_[i + 1]};
    }
    return "";
  }
  std::string phrase() const {
    for (const char* words : {"he answer is ", "he answer is option ", "he correct answer is ",
                              "he correct answer is option ", "he answer to the question is "}) {
      for (size_t from = 1; (from = text_.find(words, from)) != std::string::npos; ++from) {
        if (text_[from - 1] != 'T' && text_[from - 1] != 't') continue;
        size_t i = from + std::string_view(words).size();
        if (at(i) == '(') ++i;
        if (is_option(i)) return among(from - 1, i + 1);
      }
    }
    return "";
  }
  std::string marked() const {
    for (size_t i = 0; i < text_.size(); ++i) {
      if (is_option(i) && (i == 0 || is_space(text_[i - 1])) &&
          (separator(i + 1) || at(i + 1) == '.' || at(i + 1) == '$')) {
        return {text_[i]};
      }
    }
    return "";
  }
  std::string bounded() const {
    for (size_t i = 0; i < text_.size(); ++i) {
      if (is_option(i) && (i == 0 || is_space(text_[i - 1])) &&
          (i + 1 == text_.size() || is_space(text_[i + 1]))) {
        return {text_[i]};
      }
    }
    return "";
  }
  std::string after_one() const {
    for (size_t i = text_.find('1'); i != std::string::npos; i = text_.find('1', i + 1)) {
      if (i + 1 >= text_.size() || text_[i + 1] == '\n') continue;
      size_t rest = i + 2;
      while (rest < text_.size() && is_space(text_[rest])) ++rest;
      if (text_.find('\n', rest) < end_) continue;
      const std::string found = among(i, end_);
      if (!found.empty()) return found;
      return "";
    }
    return "";
  }
  std::string colon() const {
    for (size_t i = 0; i + 1 < text_.size(); ++i) {
      if (is_option(i) && text_[i + 1] == ':') return {text_[i]};
    }
    return "";
  }
  std::string anywhere() const {
    for (size_t i = 0; i < text_.size(); ++i) {
      if (is_option(i)) return {text_[i]};
    }
    return "";
  }

  std::string text_;
  const std::string& options_;
  size_t end_;  // of the text, or just before its final newline
};

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string first_line(std::string_view text) {
  const std::string stripped = strip(text);
  return strip(replace_all(stripped.substr(0, stripped.find('\n')), "Answer: ", ""));
}

std::string squad_answer(std::string_view text) {
  const std::string line = lower_case(text.substr(0, text.find('\n')));
  const size_t at = line.rfind("answer is");
  return at == std::string::npos ? line : line.substr(at + 9);
}

std::string regex_answer(const ExtractRule& rule, std::string_view text) {
  const std::vector<Regex::Match> matches = rule.regex.find_all(text);
  if (matches.empty()) return rule.fallback;
  const Regex::Match& match = rule.last ? matches.back() : matches.front();
  for (size_t group = 1; group < match.size(); ++group) {
    const auto& [begin, end] = match[group];
    if (begin != std::string::npos && end > begin) return strip(text.substr(begin, end - begin));
  }
  if (match.size() > 1) return rule.fallback;
  return strip(text.substr(match[0].first, match[0].second - match[0].first));
}

std::string normalise(std::string_view text) {
  std::string kept;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    if (point.value != kInvalidCodePoint &&
        (is_word_character(point.value) || classify(point.value) == CharClass::kSpace)) {
      kept += text.substr(at, point.bytes);
    }
    at += point.bytes;
  }
  std::string out, word;
  const auto flush = [&] {
    const std::string lower = lower_case(word);
    if (!word.empty() && lower != "a" && lower != "an" && lower != "the")
      out += (out.empty() ? "" : " ") + word;
    word.clear();
  };
  for (size_t at = 0; at < kept.size();) {
    const CodePoint point = decode_utf8(kept, at);
    if (classify(point.value) == CharClass::kSpace) {
      flush();
    } else {
      word += kept.substr(at, point.bytes);
    }
    at += point.bytes;
  }
  flush();
  return out;
}

constexpr std::string_view kFirstOption = "first_option";
constexpr std::string_view kRegex = "regex";  // written as a map

// In the order of the enum.
using Rule = const ExtractRule&;
constexpr std::array kRules{
    ExtractRow{"none", "the text without surrounding white space",
               [](Rule, std::string_view text) { return strip(text); }},
    ExtractRow{"first_capital", "the first capital letter",
               [](Rule, std::string_view text) { return first_capital(text); }},
    ExtractRow{kFirstOption, "the option that an answer in prose names",
               [](Rule rule, std::string_view text) {
                 return OptionFinder(plain_separators(text), rule.options).find();
               }},
    ExtractRow{"last_number", "the last number before the next question, or NULL",
               [](Rule rule, std::string_view text) { return last_number(text, rule.thousands); }},
    ExtractRow{"first_line", "the first line that is not blank, without \"Answer: \"",
               [](Rule, std::string_view text) { return first_line(text); }},
    ExtractRow{"squad", "the first line, behind \"answer is\"",
               [](Rule, std::string_view text) { return squad_answer(text); }},
    ExtractRow{kRegex, "the first or last match of a regular expression", regex_answer},
};

}  // namespace

std::span<const ExtractRow> extract_rules() { return kRules; }

std::string extract_rule_names() {
  std::string names;
  for (const ExtractRow& row : kRules) {
    if (!names.empty()) names += &row == &kRules.back() ? " or " : ", ";
    names += row.name;
    if (row.name == kFirstOption) names += "(LETTERS)";
    if (row.name == kRegex) names = names.substr(0, names.size() - kRegex.size()) + "{regex: ...}";
  }
  return names;
}

bool parse_extract(std::string_view text, ExtractRule* rule) {
  *rule = {};
  const size_t bracket = text.ends_with(")") ? text.find('(') : std::string_view::npos;
  const std::string_view name = text.substr(0, bracket);
  const auto row = std::find_if(kRules.begin(), kRules.end(), [&](const auto& r) { return r.name == name; });
  const bool lettered = bracket != std::string_view::npos;
  if (row == kRules.end() || lettered != (name == kFirstOption) || name == kRegex) return false;
  rule->kind = static_cast<ExtractKind>(row - kRules.begin());
  if (!lettered) return true;
  rule->options = std::string(text.substr(bracket + 1, text.size() - bracket - 2));
  std::sort(rule->options.begin(), rule->options.end());
  return !rule->options.empty() &&
         std::all_of(rule->options.begin(), rule->options.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

std::string extract_answer(const ExtractRule& rule, std::string_view text) {
  return kRules.at(static_cast<size_t>(rule.kind)).answer(rule, text);
}

std::string without_thousands(std::string_view text) {
  const auto digits = [&](size_t at) {
    size_t count = 0;
    while (at + count < text.size() && text[at + count] >= '0' && text[at + count] <= '9') ++count;
    return count;
  };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t first = digits(at);
    if (first == 0) {
      out += text[at++];
      continue;
    }
    size_t end = at + first;  // of the number: 1 to 3 digits, then groups of three
    bool grouped = first <= 3 && (at < 2 || text[at - 1] != ',' || digits(at - 2) == 0);
    while (grouped && end < text.size() && text[end] == ',' && digits(end + 1) == 3) end += 4;
    if (end < text.size() && text[end] == ',' && digits(end + 1) > 0) grouped = false;  // a list: 1,234,5
    if (!grouped) end = at + first;
    for (; at < end; ++at) {
      if (text[at] != ',') out += text[at];
    }
  }
  return out;
}

std::string strip(std::string_view text) {
  std::string kept = strip_left(text);
  while (!kept.empty()) {
    size_t last = kept.size() - 1;  // of the last character
    while (last > 0 && kept.size() - last < 4 && (static_cast<unsigned char>(kept[last]) & 0xc0) == 0x80)
      --last;
    const CodePoint point = decode_utf8(kept, last);
    if (!is_blank(point.value) || last + point.bytes != kept.size()) break;
    kept.resize(last);
  }
  return kept;
}

std::string strip_left(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text, 0);
    if (!is_blank(point.value)) break;
    text.remove_prefix(point.bytes);
  }
  return std::string(text);
}

std::string general_normalise(std::string_view text) {
  return normalise(text.substr(0, text.find_first_of("\n.,")));
}
std::string squad_normalise(std::string_view text) { return normalise(text.substr(0, text.find('\n'))); }

std::string official_normalise(std::string_view text) {
  std::string bare;
  for (char c : lower_case(text)) {
    if (!(c >= 0x21 && c <= 0x2f) && !(c >= 0x3a && c <= 0x40) && !(c >= 0x5b && c <= 0x60) &&
        !(c >= 0x7b && c <= 0x7e)) {
      bare += c;
    }
  }
  std::string out, word;
  bool blank = false;  // wanted before the next character
  const auto flush = [&] {
    if (word == "a" || word == "an" || word == "the") {
      blank = true;
    } else if (!word.empty()) {
      if (blank && !out.empty()) out += ' ';
      out += word;
      blank = false;
    }
    word.clear();
  };
  for (size_t at = 0; at < bare.size();) {
    const CodePoint point = decode_utf8(bare, at);
    const std::string_view character = std::string_view(bare).substr(at, point.bytes);
    at += point.bytes;
    if (point.value != kInvalidCodePoint && is_word_character(point.value)) {
      word += character;
      continue;
    }
    flush();
    if (is_blank(point.value)) {
      blank = true;
    } else {
      if (blank && !out.empty()) out += ' ';
      out += character;
      blank = false;
    }
  }
  flush();
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    if (point.value == kInvalidCodePoint) {
      out += text.substr(at, point.bytes);
    } else {
      append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point.value))));
    }
    at += point.bytes;
  }
  return out;
}

}  // namespace eep
