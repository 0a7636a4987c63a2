// Regular expressions of task files, in Python's spelling, searched in time proportional to text times
// expression (Thompson's simulation with captures, leftmost and first alternative first, as a backtracking
// matcher finds them). Known: literals, ., [...], \d \w \s and their capitals, \b \B \A \Z ^ $, groups,
// (?:...), (?P<name>...), |, * + ? {m,n} and their lazy forms, and the flags i, m, s at the start or in a
// group. Look-around, back references and possessive forms are refused by their place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace eep {

struct RegexError {
  std::string what;
  size_t at = 0;  // byte of the expression
};

class Regex {
 public:
  Regex() = default;                              // matches the empty text
  explicit Regex(const std::string& expression);  // throws RegexError

  // Bytes [begin, end) of each group; group 0 is the match. begin is npos for a group that took no part.
  using Match = std::vector<std::pair<size_t, size_t>>;
  std::vector<Match> find_all(std::string_view text) const;  // that do not overlap, as Python's finditer
  std::string remove_from(std::string_view text) const;      // all matches taken out

 private:
  friend class RegexCompiler;
  friend class RegexSearch;

  enum class Op : uint8_t { kSet, kSplit, kJump, kSave, kAssert, kMatch };
  enum class Assertion : uint8_t { kTextBegin, kTextEnd, kLineBegin, kLineEnd, kBeforeFinal, kWord, kNoWord };
  struct Set {
    std::vector<std::pair<uint32_t, uint32_t>> ranges;  // code points, both ends in
    std::string classes;                                // of d D w W s S
    bool negated = false, fold = false;                 // fold: letters of either case
    bool has(uint32_t point) const;
  };
  struct Step {
    Op op = Op::kMatch;
    size_t a = 0, b = 0;  // set, or the steps that follow (a first), or the slot, or the assertion
  };

  std::vector<Set> sets_;
  std::vector<Step> steps_;
  size_t groups_ = 1;
};

}  // namespace eep
