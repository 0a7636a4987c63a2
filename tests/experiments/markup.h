// A small strict reader of markup: enough of XML to say whether a page is well-formed, and to find its texts.
#pragma once

#include <doctest/doctest.h>

#include <cctype>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace eep::test {

struct Markup {
  std::string error;                  // "" where the page is well-formed
  std::vector<std::string> elements;  // names, in order
  std::set<std::string> ids;
  std::vector<std::string> references;  // ids that links and labels name
  std::string text;                     // of all elements but style, entities resolved
  std::vector<std::string> attributes;  // names
};

class MarkupReader {
 public:
  explicit MarkupReader(std::string_view text) : text_(text) {}

  Markup read() {
    if (text_.substr(at_, 15) == "<!DOCTYPE html>") at_ += 15;
    while (at_ < text_.size() && markup_.error.empty()) {
      if (text_[at_] != '<') {
        characters();
      } else if (text_.substr(at_, 2) == "</") {
        end_tag();
      } else {
        start_tag();
      }
    }
    if (markup_.error.empty() && !open_.empty()) fail("not closed: " + open_.back());
    return markup_;
  }

 private:
  void fail(const std::string& what) {
    if (markup_.error.empty()) markup_.error = what + " at " + std::to_string(at_);
    at_ = text_.size();
  }
  static bool name_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; }
  std::string name() {
    const size_t begin = at_;
    while (at_ < text_.size() && name_character(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  void blanks() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  // One character or entity of content or of an attribute.
  char character() {
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c < 0x20 && c != '\n' && c != '\t') fail("control character");
    if (c != '&') return text_[at_++];
    for (const auto& [entity, value] :
         {std::pair{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}}) {
      if (text_.substr(at_, std::string_view(entity).size()) == entity) {
        at_ += std::string_view(entity).size();
        return value;
      }
    }
    fail("unknown entity");
    return '?';
  }
  void characters() {
    bool blank = true;
    const bool style = !open_.empty() && open_.back() == "style";
    while (at_ < text_.size() && text_[at_] != '<') {
      const char c = character();
      blank = blank && (c == ' ' || c == '\n');
      if (!style) markup_.text += c;
    }
    if (open_.empty() && !blank) return fail("text outside");
    markup_.text += '\n';
  }
  void end_tag() {
    at_ += 2;
    const std::string own = name();
    if (open_.empty() || open_.back() != own) return fail("</" + own + "> does not fit");
    open_.pop_back();
    if (at_ >= text_.size() || text_[at_] != '>') return fail("end of a tag");
    ++at_;
  }
  void start_tag() {
    ++at_;
    const std::string own = name();
    if (own.empty()) return fail("a tag without a name");
    markup_.elements.push_back(own);
    std::set<std::string> seen;
    while (at_ < text_.size()) {
      blanks();
      if (text_.substr(at_, 2) == "/>") {
        at_ += 2;
        return;
      }
      if (text_[at_] == '>') {
        ++at_;
        // HTML closes these by itself
        const bool closed = own == "meta" || own == "br";
        if (!closed) open_.push_back(own);
        return;
      }
      const std::string key = name();
      if (key.empty() || !seen.insert(key).second) return fail("attribute " + key);
      markup_.attributes.push_back(key);
      std::string value;
      if (at_ < text_.size() && text_[at_] == '=') {
        if (text_.substr(at_, 2) != "=\"") return fail("attribute without quotes");
        at_ += 2;
        while (at_ < text_.size() && text_[at_] != '"') {
          if (text_[at_] == '<') return fail("< in an attribute");
          value += character();
        }
        ++at_;
      } else if (key != "open") {
        return fail("attribute " + key + " without a value");
      }
      if (key == "id" && !markup_.ids.insert(value).second) return fail("id twice: " + value);
      if (key == "aria-labelledby") {
        for (size_t begin = 0; begin < value.size();) {
          const size_t end = std::min(value.find(' ', begin), value.size());
          markup_.references.push_back(value.substr(begin, end - begin));
          begin = end + 1;
        }
      }
      if (key == "href" && value.starts_with('#')) markup_.references.push_back(value.substr(1));
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<std::string> open_;
  Markup markup_;
};

inline Markup read_markup(std::string_view text) { return MarkupReader(text).read(); }

// Rows of a CSV file, quotes resolved.
inline std::vector<std::vector<std::string>> read_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, std::vector<std::string>(1));
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        rows.back().back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        rows.back().back() += '"';
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      rows.back().emplace_back();
    } else if (c == '\n') {
      rows.emplace_back(1);
    } else {
      rows.back().back() += c;
    }
  }
  rows.pop_back();
  return rows;
}

}  // namespace eep::test
