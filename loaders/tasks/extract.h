// Answers out of generated text: the extraction rules and normalisers of the paper's evaluation protocol
// (first capital letter, first option, last number, ...) and of the plain one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/tasks/regex.h"

namespace eep {

enum class ExtractKind : uint8_t {
  kNone,
  kFirstCapital,
  kFirstOption,
  kLastNumber,
  kFirstLine,
  kSquad,
  kRegex
};

struct ExtractRule {
  ExtractKind kind = ExtractKind::kNone;  // kNone: the text without surrounding white space
  std::string options;                    // kFirstOption: the letters, ascending
  Regex regex;                            // kRegex: of a match, the first group that took part, else all
  bool last = false;                      // kRegex: the last match, else the first
  std::string fallback;                   // kRegex: the answer where nothing matches
  bool thousands = false;                 // 70,000 is one number (the paper's code: two)
  std::vector<Regex> ignore;              // exact_match: removed from answer and reference
};

// A row of the table of rules.
struct ExtractRow {
  std::string_view name;  // first_option is written with its letters: first_option(ABC)
  std::string_view words;
  std::string (*answer)(const ExtractRule& rule, std::string_view text) = nullptr;
};

std::span<const ExtractRow> extract_rules();  // in the order of the enum
// None, first_capital, first_option(LETTERS), ...: what a task file may say.
std::string extract_rule_names();
// False if there is no such rule.
bool parse_extract(std::string_view text, ExtractRule* rule);

// The answer; "" (last_number: "NULL") when there is none.
std::string extract_answer(const ExtractRule& rule, std::string_view text);

// 1,234,567 -> 1234567; commas that are no separators of thousands stay.
std::string without_thousands(std::string_view text);
std::string strip(std::string_view text);       // white space (Unicode) at both ends
std::string strip_left(std::string_view text);  // at the beginning

// Cut at the first newline, period or comma; drop what is neither word character nor white space; drop a, an,
// the; squeeze blanks.
std::string general_normalise(std::string_view text);
// The same, cut at the newline alone.
std::string squad_normalise(std::string_view text);
// As SQuAD's own script: lower case, without ASCII punctuation and articles, blanks squeezed.
std::string official_normalise(std::string_view text);
std::string lower_case(std::string_view text);

}  // namespace eep
