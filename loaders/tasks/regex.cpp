#include "loaders/tasks/regex.h"

#include <utf8proc.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "loaders/formats/unicode.h"

namespace eep {

namespace {

constexpr size_t kMaxSteps = 10000;
constexpr int kMaxDepth = 100;
constexpr size_t kMaxRepeat = 1000;
constexpr size_t kMaxGroups = 100;
constexpr size_t kMaxWork = 200000;  // atoms read, those of each copy of a repeat included
constexpr size_t kNone = std::string::npos;

bool is_digit_point(uint32_t point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(point)) == UTF8PROC_CATEGORY_ND;
}
bool is_space_point(uint32_t point) {
  return (point >= 0x1c && point <= 0x1f) || classify(point) == CharClass::kSpace;
}
bool in_class(char name, uint32_t point) {
  if (point == kInvalidCodePoint) return name == 'D' || name == 'W' || name == 'S';
  switch (name) {
    case 'd':
      return is_digit_point(point);
    case 'D':
      return !is_digit_point(point);
    case 'w':
      return is_word_character(point);
    case 'W':
      return !is_word_character(point);
    case 's':
      return is_space_point(point);
    default:
      return !is_space_point(point);
  }
}

uint32_t lower(uint32_t point) {
  return point == kInvalidCodePoint
             ? point
             : static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point)));
}
uint32_t upper(uint32_t point) {
  return point == kInvalidCodePoint
             ? point
             : static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(point)));
}

}  // namespace

bool Regex::Set::has(uint32_t point) const {
  const auto inside = [&](uint32_t p) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [&](const auto& range) { return p >= range.first && p <= range.second; });
  };
  const bool found =
      inside(point) || (fold && (inside(lower(point)) || inside(upper(point)))) ||
      std::any_of(classes.begin(), classes.end(), [&](char name) { return in_class(name, point); });
  return found != negated;
}

// Reads the expression into steps, one recursive function a level of precedence.
class RegexCompiler {
 public:
  RegexCompiler(const std::string& text, Regex* out) : text_(text), out_(*out) {}

  void compile() {
    save(0);
    alternatives();
    if (at_ < text_.size()) fail("a ) without its (", at_);
    save(1);
    emit({Regex::Op::kMatch, 0, 0});
    out_.groups_ = groups_;
  }

 private:
  using Op = Regex::Op;
  using Assertion = Regex::Assertion;
  struct Flags {
    bool fold = false, lines = false, dot_all = false;
  };

  [[noreturn]] static void fail(const std::string& what, size_t at) { throw RegexError{what, at}; }
  bool accept(std::string_view sign) {
    if (std::string_view(text_).substr(at_, sign.size()) != sign) return false;
    at_ += sign.size();
    return true;
  }
  size_t here() const { return out_.steps_.size(); }
  size_t emit(Regex::Step step) {
    if (here() >= kMaxSteps) fail("the expression is too large", at_);
    out_.steps_.push_back(step);
    return here() - 1;
  }
  void save(size_t slot) { emit({Op::kSave, slot, 0}); }
  void check(Assertion assertion) { emit({Op::kAssert, static_cast<size_t>(assertion), 0}); }
  void take(Regex::Set set) {
    set.fold = flags_.fold;
    out_.sets_.push_back(std::move(set));
    emit({Op::kSet, out_.sets_.size() - 1, 0});
  }

  // Steps from `begin` on move behind a new step at `begin`.
  void insert(size_t begin, Regex::Step step) {
    emit({});
    for (size_t i = here() - 1; i > begin; --i) {
      Regex::Step moved = out_.steps_[i - 1];
      if (moved.op == Op::kSplit || moved.op == Op::kJump) {
        moved.a += moved.a >= begin ? 1 : 0;
        moved.b += moved.b >= begin ? 1 : 0;
      }
      out_.steps_[i] = moved;
    }
    out_.steps_[begin] = step;
  }

  void alternatives() {
    if (++depth_ > kMaxDepth) fail("groups nested too deeply", at_);
    const size_t begin = here();
    sequence();
    std::vector<size_t> jumps;
    size_t branch = begin;
    while (accept("|")) {
      insert(branch, {Op::kSplit, branch + 1, 0});
      for (size_t& jump : jumps) jump += jump >= branch ? 1 : 0;
      jumps.push_back(emit({Op::kJump, 0, 0}));
      out_.steps_[branch].b = here();
      branch = here();
      sequence();
    }
    for (size_t jump : jumps) out_.steps_[jump].a = here();
    --depth_;
  }

  void sequence() {
    while (at_ < text_.size() && text_[at_] != '|' && text_[at_] != ')') piece();
  }

  struct Repeat {
    size_t least = 0, most = 0;  // most: kNone without limit
  };
  std::optional<Repeat> repeat() {
    if (accept("*")) return Repeat{0, kNone};
    if (accept("+")) return Repeat{1, kNone};
    if (accept("?")) return Repeat{0, 1};
    if (at_ >= text_.size() || text_[at_] != '{') return std::nullopt;
    const size_t begin = at_++;
    const std::optional<size_t> least = count();
    const bool comma = accept(",");
    const std::optional<size_t> most = comma ? count() : least;
    if ((!least && !most) || !accept("}")) {  // a brace that stands for itself, as in Python
      at_ = begin;
      return std::nullopt;
    }
    const Repeat found{least.value_or(0), most.value_or(kNone)};
    if (found.most < found.least) fail("a repeat whose least is above its most", begin);
    return found;
  }
  std::optional<size_t> count() {
    const size_t begin = at_;
    size_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + static_cast<size_t>(text_[at_] - '0');
      if (value > kMaxRepeat) fail("a repeat above " + std::to_string(kMaxRepeat), begin);
    }
    return at_ > begin ? std::optional(value) : std::nullopt;
  }

  void piece() {
    const size_t source = at_, begin = here(), groups = groups_;
    if (repeat()) fail("nothing to repeat", source);
    const Flags flags = flags_;
    atom();
    const std::optional<Repeat> times = repeat();
    if (!times) return;
    const bool lazy = accept("?");
    if (at_ < text_.size() && text_[at_] == '+') fail("possessive repeats are not known", at_);
    const size_t behind = at_;
    if (repeat()) fail("a repeat of a repeat", behind);
    // The atom is compiled again for each copy.
    const auto again = [&] {
      const Flags kept = std::exchange(flags_, flags);
      at_ = source;
      groups_ = groups;
      atom();
      flags_ = kept;
    };
    out_.steps_.resize(begin);
    const auto optional = [&](bool loops) {
      const size_t split = emit({Op::kSplit, 0, 0});
      again();
      if (loops) emit({Op::kJump, split, 0});
      out_.steps_[split].a = lazy ? here() : split + 1;
      out_.steps_[split].b = lazy ? split + 1 : here();
    };
    for (size_t i = 0; i < times->least; ++i) again();
    if (times->most == kNone) {
      optional(true);
    } else {
      for (size_t i = times->least; i < times->most; ++i) optional(false);
    }
    if (times->most == 0) {  // nothing is left but its groups, which take no part
      again();
      out_.steps_.resize(begin);
    }
    at_ = behind;
  }

  void atom() {
    const size_t begin = at_;
    if (++work_ > kMaxWork) fail("the expression is too large", begin);
    if (accept("(")) return group(begin);
    if (accept("[")) return take(bracket(begin));
    if (accept(".")) {
      Regex::Set any;
      if (!flags_.dot_all) any.ranges.push_back({'\n', '\n'});
      any.negated = true;
      return take(any);
    }
    if (accept("^")) return check(flags_.lines ? Assertion::kLineBegin : Assertion::kTextBegin);
    if (accept("$")) return check(flags_.lines ? Assertion::kLineEnd : Assertion::kBeforeFinal);
    if (accept("\\A")) return check(Assertion::kTextBegin);
    if (accept("\\Z")) return check(Assertion::kTextEnd);
    if (accept("\\b")) return check(Assertion::kWord);
    if (accept("\\B")) return check(Assertion::kNoWord);
    take(one(begin));
  }

  void group(size_t begin) {
    const Flags outer = flags_;
    bool captures = true;
    if (accept("?")) {
      captures = false;
      if (accept("P<")) {
        const size_t end = text_.find('>', at_);
        if (end == kNone || end == at_) fail("a group's name without its end", begin);
        at_ = end + 1;
        captures = true;
      } else if (!accept(":")) {
        if (read_flags(begin)) {  // (?s) alone: for the whole
          if (begin != 0) fail("flags for the whole stand at its start", begin);
          return;
        }
      }
    }
    const size_t number = captures ? groups_++ : 0;
    if (number > kMaxGroups) fail("too many groups", begin);
    if (captures) save(2 * number);
    alternatives();
    if (!accept(")")) fail("a ( without its )", begin);
    if (captures) save(2 * number + 1);
    flags_ = outer;
  }

  // True for (?s), false for (?s:
  bool read_flags(size_t begin) {
    for (; at_ < text_.size(); ++at_) {
      const char flag = text_[at_];
      if (flag == 'i') {
        flags_.fold = true;
      } else if (flag == 'm') {
        flags_.lines = true;
      } else if (flag == 's') {
        flags_.dot_all = true;
      } else {
        break;
      }
    }
    if (accept(")")) return true;
    if (accept(":")) return false;
    fail("a group that is not known (expected (...), (?:...), (?P<name>...) or the flags i, m, s)", begin);
  }

  uint32_t point(size_t begin) {
    if (at_ >= text_.size()) fail("the expression ends too early", begin);
    const CodePoint found = decode_utf8(text_, at_);
    if (found.value == kInvalidCodePoint) fail("not UTF-8", at_);
    at_ += found.bytes;
    return found.value;
  }

  uint32_t hexadecimal(size_t digits, size_t begin) {
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const char c = at_ < text_.size() ? text_[at_] : ' ';
      const size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
      if (c == ' ' || digit == kNone) fail("too few hexadecimal digits", begin);
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return value;
  }

  // One character, or a class.
  Regex::Set one(size_t begin) {
    Regex::Set set;
    if (!accept("\\")) {
      const uint32_t literal = point(begin);
      set.ranges.push_back({literal, literal});
      return set;
    }
    if (at_ >= text_.size()) fail("the expression ends in a backslash", begin);
    const char escaped = text_[at_];
    if (std::string_view("dDwWsS").find(escaped) != kNone) {
      ++at_;
      set.classes = escaped;
      return set;
    }
    static constexpr std::string_view kLetters = "ntrfva", kMeanings = "\n\t\r\f\v\a";
    uint32_t literal = 0;
    if (const size_t letter = kLetters.find(escaped); letter != kNone) {
      ++at_;
      literal = static_cast<uint32_t>(kMeanings[letter]);
    } else if (escaped == 'x' || escaped == 'u') {
      ++at_;
      literal = hexadecimal(escaped == 'x' ? 2 : 4, begin);
    } else if (escaped >= '0' && escaped <= '9') {
      fail("back references and octal escapes are not known", begin);
    } else if ((escaped >= 'a' && escaped <= 'z') || (escaped >= 'A' && escaped <= 'Z')) {
      fail(std::string("an escape that is not known (\\") + escaped + ")", begin);
    } else {
      literal = point(begin);
    }
    set.ranges.push_back({literal, literal});
    return set;
  }

  Regex::Set bracket(size_t begin) {
    Regex::Set set;
    set.negated = accept("^");
    for (bool first = true;; first = false) {
      if (at_ >= text_.size()) fail("a [ without its ]", begin);
      if (!first && accept("]")) return set;
      const size_t from = at_;
      const Regex::Set low = one(from);
      set.classes += low.classes;
      const bool range = at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']';
      if (!range) {
        set.ranges.insert(set.ranges.end(), low.ranges.begin(), low.ranges.end());
        continue;
      }
      ++at_;
      const Regex::Set high = one(at_);
      if (!low.classes.empty() || !high.classes.empty()) fail("a range from or to a class", from);
      if (high.ranges[0].first < low.ranges[0].first) fail("a range whose end is before its start", from);
      set.ranges.push_back({low.ranges[0].first, high.ranges[0].first});
    }
  }

  const std::string& text_;
  Regex& out_;
  size_t at_ = 0, groups_ = 1, work_ = 0;
  int depth_ = 0;
  Flags flags_;
};

// All threads advance through the text together; a step is held by the first thread that reaches it.
class RegexSearch {
 public:
  RegexSearch(const Regex& regex, std::string_view text) : regex_(regex), text_(text) {
    for (size_t at = 0; at < text.size();) {
      const CodePoint point = decode_utf8(text, at);
      points_.push_back(point.value);
      offsets_.push_back(at);
      at += point.bytes;
    }
    offsets_.push_back(text.size());
    seen_.assign(regex.steps_.size(), kNone);
  }

  size_t size() const { return points_.size(); }

  // The first match from character `from` on: slots in characters.
  std::optional<std::vector<size_t>> find(size_t from) {
    std::optional<std::vector<size_t>> best;
    std::vector<Thread> now, next;
    std::fill(seen_.begin(), seen_.end(), kNone);
    for (size_t at = from; at <= size(); ++at) {
      if (!best) {
        std::vector<size_t> slots(2 * regex_.groups_, kNone);
        add(0, at, slots, &now);
      }
      if (now.empty() && best) break;
      next.clear();
      // What `now` marked at this place was marked with `at`; `next` marks with at + 1.
      for (Thread& thread : now) {
        const Regex::Step& step = regex_.steps_[thread.step];
        if (step.op == Regex::Op::kMatch) {
          best = thread.slots;
          break;
        }
        if (at < size() && regex_.sets_[step.a].has(points_[at])) {
          add(thread.step + 1, at + 1, thread.slots, &next);
        }
      }
      std::swap(now, next);
    }
    return best;
  }

  Regex::Match bytes_of(const std::vector<size_t>& slots) const {
    Regex::Match match;
    for (size_t i = 0; i < slots.size(); i += 2) {
      const bool part = slots[i] != kNone && slots[i + 1] != kNone;
      match.emplace_back(part ? offsets_[slots[i]] : kNone, part ? offsets_[slots[i + 1]] : kNone);
    }
    return match;
  }

 private:
  struct Thread {
    size_t step;
    std::vector<size_t> slots;
  };

  bool word(size_t at) const {
    return at < size() && points_[at] != kInvalidCodePoint && is_word_character(points_[at]);
  }
  bool holds(Regex::Assertion assertion, size_t at) const {
    const bool edge = word(at) != (at > 0 && word(at - 1));
    switch (assertion) {
      case Regex::Assertion::kTextBegin:
        return at == 0;
      case Regex::Assertion::kTextEnd:
        return at == size();
      case Regex::Assertion::kLineBegin:
        return at == 0 || points_[at - 1] == '\n';
      case Regex::Assertion::kLineEnd:
        return at == size() || points_[at] == '\n';
      case Regex::Assertion::kBeforeFinal:
        return at == size() || (at + 1 == size() && points_[at] == '\n');
      case Regex::Assertion::kWord:
        return edge;
      case Regex::Assertion::kNoWord:
        return !edge;
    }
    return false;
  }

  // The steps that a thread at `step` waits at, in order of preference.
  void add(size_t first, size_t at, const std::vector<size_t>& slots, std::vector<Thread>* threads) {
    std::vector<Thread> stack{{first, slots}};
    while (!stack.empty()) {
      Thread thread = std::move(stack.back());
      stack.pop_back();
      if (seen_[thread.step] == at) continue;
      seen_[thread.step] = at;
      const Regex::Step& step = regex_.steps_[thread.step];
      switch (step.op) {
        case Regex::Op::kJump:
          stack.push_back({step.a, std::move(thread.slots)});
          break;
        case Regex::Op::kSplit:
          stack.push_back({step.b, thread.slots});
          stack.push_back({step.a, std::move(thread.slots)});
          break;
        case Regex::Op::kSave:
          thread.slots[step.a] = at;
          stack.push_back({thread.step + 1, std::move(thread.slots)});
          break;
        case Regex::Op::kAssert:
          if (holds(static_cast<Regex::Assertion>(step.a), at))
            stack.push_back({thread.step + 1, std::move(thread.slots)});
          break;
        case Regex::Op::kSet:
        case Regex::Op::kMatch:
          threads->push_back(std::move(thread));
          break;
      }
    }
  }

  const Regex& regex_;
  std::string_view text_;
  std::vector<uint32_t> points_;
  std::vector<size_t> offsets_;
  std::vector<size_t> seen_;  // the place at which a step was reached last
};

Regex::Regex(const std::string& expression) { RegexCompiler(expression, this).compile(); }

std::vector<Regex::Match> Regex::find_all(std::string_view text) const {
  std::vector<Match> matches;
  if (steps_.empty()) return {{{0, 0}}};
  RegexSearch search(*this, text);
  for (size_t from = 0; from <= search.size();) {
    const auto slots = search.find(from);
    if (!slots) break;
    matches.push_back(search.bytes_of(*slots));
    from = (*slots)[1] > (*slots)[0] ? (*slots)[1] : (*slots)[1] + 1;
  }
  return matches;
}

std::string Regex::remove_from(std::string_view text) const {
  std::string out;
  size_t at = 0;
  for (const Match& match : find_all(text)) {
    out += text.substr(at, match[0].first - at);
    at = match[0].second;
  }
  return out + std::string(text.substr(at));
}

}  // namespace eep
