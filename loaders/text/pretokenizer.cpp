#include "loaders/text/pretokenizer.h"

#include <utility>

#include "loaders/formats/unicode.h"

namespace eep {

const char* const kQwenRegex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kGpt4oRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

constexpr std::string_view kGpt2Regex =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

bool is_newline(char c) { return c == '\r' || c == '\n'; }

// The end of the run of one class that begins at `at`.
size_t skip_class(std::string_view text, size_t at, CharClass wanted) {
  while (at < text.size()) {
    const CodePoint c = decode_utf8(text, at);
    if (classify(c.value) != wanted) break;
    at += c.bytes;
  }
  return at;
}

// 's 't 're 've 'm 'll 'd: the end of the contraction at `at`, or `at`.
size_t match_contraction(std::string_view text, size_t at, bool any_case) {
  if (text[at] != '\'') return at;
  const auto letter = [&](size_t i) -> char {
    if (i >= text.size()) return '\0';
    return any_case && text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
  };
  const char first = letter(at + 1), second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (any_case && text.substr(at + 1, 2) == "\xc5\xbf") return at + 3;  // U+017F folds to s
  return at;
}

// \s+(?!\S)|\s+ at a space: a run that something follows leaves its last character to it.
size_t match_blanks(std::string_view text, size_t at) {
  size_t end = at, last = at;
  while (end < text.size()) {
    const CodePoint c = decode_utf8(text, end);
    if (classify(c.value) != CharClass::kSpace) break;
    last = end;
    end += c.bytes;
  }
  return end == text.size() || last == at ? end : last;
}

// \p{N}{1,most} at a number.
size_t match_number(std::string_view text, size_t at, int most) {
  for (int digits = 0; digits < most && at < text.size(); ++digits) {
    const CodePoint c = decode_utf8(text, at);
    if (classify(c.value) != CharClass::kNumber) break;
    at += c.bytes;
  }
  return at;
}

//  ?[^\s\p{L}\p{N}]+[tail]*|\s*[\r\n]+|\s+(?!\S)|\s+ where no letter and no number is.
size_t match_other(std::string_view text, size_t at, std::string_view tail) {
  const size_t begin = text[at] == ' ' ? at + 1 : at;
  size_t end = skip_class(text, begin, CharClass::kOther);
  if (end > begin) {
    while (end < text.size() && tail.find(text[end]) != std::string_view::npos) ++end;
    return end;
  }
  // \s*[\r\n]+ through the last line end of the run of blanks
  const size_t blanks = skip_class(text, at, CharClass::kSpace);
  const size_t newline = text.substr(at, blanks - at).find_last_of("\r\n");
  if (newline != std::string_view::npos) return at + newline + 1;
  return match_blanks(text, at);
}

// The expressions of Qwen and of Llama 3.
size_t match_words(std::string_view text, size_t at, int digits) {
  // (?i:'s|'t|'re|'ve|'m|'ll|'d)
  if (const size_t end = match_contraction(text, at, true); end > at) return end;
  // [^\r\n\p{L}\p{N}]?\p{L}+
  const CodePoint first = decode_utf8(text, at);
  const CharClass kind = classify(first.value);
  const size_t after = at + first.bytes;
  if (kind == CharClass::kLetter) return skip_class(text, after, CharClass::kLetter);
  if (kind == CharClass::kNumber) return match_number(text, at, digits);
  if (!is_newline(text[at])) {
    if (const size_t end = skip_class(text, after, CharClass::kLetter); end > after) return end;
  }
  return match_other(text, at, "\r\n");
}

// From `at` [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+, as an expression matches it: the
// first part takes what it can and gives back what the second one needs. Or `at`.
size_t match_upper_lower(std::string_view text, size_t at) {
  size_t end = at,
         given_back = at;  // behind the last character of the first part that the second may have too
  LetterCase last = LetterCase::kNone;
  while (end < text.size()) {
    const CodePoint c = decode_utf8(text, end);
    last = letter_case(c.value);
    if (last != LetterCase::kUpper && last != LetterCase::kEither) break;
    end += c.bytes;
    if (last == LetterCase::kEither) given_back = end;
  }
  if (end == text.size() || last != LetterCase::kLower) return given_back;
  while (end < text.size()) {
    const CodePoint c = decode_utf8(text, end);
    last = letter_case(c.value);
    if (last != LetterCase::kLower && last != LetterCase::kEither) break;
    end += c.bytes;
  }
  return end;
}

// The first two alternatives of GPT-4o's expression without their contractions, or `at`. The second one, a
// run of capitals, is where no character of the run may be small.
size_t match_cased_word(std::string_view text, size_t at) {
  const CodePoint first = decode_utf8(text, at);
  const CharClass kind = classify(first.value);
  const bool before = kind != CharClass::kLetter && kind != CharClass::kNumber && !is_newline(text[at]);
  const size_t begin = before ? at + first.bytes : at;
  if (const size_t end = match_upper_lower(text, begin); end > begin) return end;
  if (const size_t end = match_upper_lower(text, at); before && end > at) return end;  // a mark begins a word
  size_t end = begin;
  while (end < text.size()) {
    const CodePoint c = decode_utf8(text, end);
    const LetterCase letter = letter_case(c.value);
    if (letter != LetterCase::kUpper && letter != LetterCase::kEither) break;
    end += c.bytes;
  }
  return end > begin ? end : at;
}

void run_stage(const std::vector<PreTokenizer>& stages, size_t index, std::string_view piece, bool at_start,
               const PieceSink& sink);

// Cuts the piece by `next(text, at)`, the end of the part that begins at `at`.
template <typename Next>
void cut(const std::vector<PreTokenizer>& stages, size_t index, std::string_view piece, bool at_start,
         const PieceSink& sink, Next next) {
  for (size_t at = 0; at < piece.size();) {
    const size_t end = next(piece, at);
    run_stage(stages, index + 1, piece.substr(at, end - at), at_start && at == 0, sink);
    at = end;
  }
}

size_t match_digits(std::string_view text, size_t at, bool runs) {
  const CodePoint first = decode_utf8(text, at);
  const bool number = classify(first.value) == CharClass::kNumber;
  size_t end = at + first.bytes;
  if (number && !runs) return end;
  while (end < text.size()) {
    const CodePoint c = decode_utf8(text, end);
    if ((classify(c.value) == CharClass::kNumber) != number) break;
    end += c.bytes;
  }
  return end;
}

void run_metaspace(const std::vector<PreTokenizer>& stages, size_t index, std::string_view piece,
                   bool at_start, const PieceSink& sink) {
  const PreTokenizer& stage = stages[index];
  const std::string& mark = stage.replacement;
  std::string text;
  text.reserve(piece.size() + mark.size());
  for (char c : piece) {
    if (c == ' ') {
      text += mark;
    } else {
      text += c;
    }
  }
  const bool wanted = stage.prepend == PreTokenizer::Prepend::kAlways ||
                      (stage.prepend == PreTokenizer::Prepend::kFirst && at_start);
  if (wanted && text.compare(0, mark.size(), mark) != 0) text.insert(0, mark);
  if (stage.kind == PreTokenizer::Kind::kMetaspace) return run_stage(stages, index + 1, text, at_start, sink);
  cut(stages, index, text, at_start, sink, [&](std::string_view all, size_t at) {
    const size_t found = all.find(mark, at + 1);
    return found == std::string_view::npos ? all.size() : found;
  });
}

void run_stage(const std::vector<PreTokenizer>& stages, size_t index, std::string_view piece, bool at_start,
               const PieceSink& sink) {
  if (piece.empty()) return;
  if (index == stages.size()) return sink(piece);
  switch (stages[index].kind) {
    case PreTokenizer::Kind::kQwen:
      return cut(stages, index, piece, at_start, sink, match_qwen);
    case PreTokenizer::Kind::kLlama3:
      return cut(stages, index, piece, at_start, sink, match_llama3);
    case PreTokenizer::Kind::kGpt4o:
      return cut(stages, index, piece, at_start, sink, match_gpt4o);
    case PreTokenizer::Kind::kGpt2:
      return cut(stages, index, piece, at_start, sink, match_gpt2);
    case PreTokenizer::Kind::kDigits:
    case PreTokenizer::Kind::kDigitRuns: {
      const bool runs = stages[index].kind == PreTokenizer::Kind::kDigitRuns;
      return cut(stages, index, piece, at_start, sink,
                 [runs](std::string_view text, size_t at) { return match_digits(text, at, runs); });
    }
    case PreTokenizer::Kind::kPrefixSpace:
      if (piece.front() == ' ') return run_stage(stages, index + 1, piece, at_start, sink);
      return run_stage(stages, index + 1, " " + std::string(piece), at_start, sink);
    case PreTokenizer::Kind::kMetaspace:
    case PreTokenizer::Kind::kMetaspaceSplit:
      return run_metaspace(stages, index, piece, at_start, sink);
  }
}

}  // namespace

bool split_kind(std::string_view regex, PreTokenizer::Kind& kind) {
  static constexpr std::pair<const char* const*, PreTokenizer::Kind> kKnown[] = {
      {&kQwenRegex, PreTokenizer::Kind::kQwen},
      {&kLlama3Regex, PreTokenizer::Kind::kLlama3},
      {&kGpt4oRegex, PreTokenizer::Kind::kGpt4o}};
  for (const auto& [known, its_kind] : kKnown) {
    if (regex != *known) continue;
    kind = its_kind;
    return true;
  }
  kind = PreTokenizer::Kind::kGpt2;
  return regex == kGpt2Regex;
}

void pre_tokenize(const std::vector<PreTokenizer>& stages, std::string_view piece, bool at_start,
                  const PieceSink& sink) {
  run_stage(stages, 0, piece, at_start, sink);
}

size_t match_qwen(std::string_view text, size_t at) { return match_words(text, at, 1); }
size_t match_llama3(std::string_view text, size_t at) { return match_words(text, at, 3); }

size_t match_gpt4o(std::string_view text, size_t at) {
  if (const size_t end = match_cased_word(text, at); end > at) {
    // (?i:'s|'t|'re|'ve|'m|'ll|'d)?
    return end < text.size() ? match_contraction(text, end, true) : end;
  }
  if (classify(decode_utf8(text, at).value) == CharClass::kNumber) return match_number(text, at, 3);
  return match_other(text, at, "\r\n/");
}

size_t match_gpt2(std::string_view text, size_t at) {
  if (const size_t end = match_contraction(text, at, false); end > at) return end;
  const size_t begin = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
  const CharClass kind = classify(decode_utf8(text, begin).value);
  if (kind != CharClass::kSpace) return skip_class(text, begin, kind);
  return match_blanks(text, at);
}

}  // namespace eep
