// Pre-tokenisers: where a text is cut before BPE. The regular expressions of GPT-2, Qwen, Llama 3 (cl100k,
// GLM-4.5's too) and GPT-4o (o200k, gpt-oss's too) run as state machines of one pass; any other expression is
// refused, not approximated.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace eep {

struct PreTokenizer {
  enum class Kind : uint8_t {
    kQwen,            // Split by Qwen's expression, every match a piece
    kLlama3,          // the same, up to three digits a piece
    kGpt4o,           // Split by GPT-4o's expression
    kGpt2,            // Split by GPT-2's expression (ByteLevel with use_regex)
    kDigits,          // every digit alone
    kDigitRuns,       // every run of digits alone
    kPrefixSpace,     // a space before a piece that does not begin with one (ByteLevel's add_prefix_space)
    kMetaspace,       // spaces become U+2581, one before the text
    kMetaspaceSplit,  // the same, and a cut before each U+2581
  };
  enum class Prepend : uint8_t { kNever, kFirst, kAlways };

  Kind kind = Kind::kQwen;
  Prepend prepend = Prepend::kNever;  // metaspaces
  std::string replacement = "\xe2\x96\x81";
};

extern const char* const kQwenRegex;
extern const char* const kLlama3Regex;
extern const char* const kGpt4oRegex;

// The expressions as tokenizer.json spells them; false: unknown.
bool split_kind(std::string_view regex, PreTokenizer::Kind& kind);

using PieceSink = std::function<void(std::string_view)>;

// Runs all stages over valid UTF-8. at_start: the piece lies at the beginning of the user's text.
void pre_tokenize(const std::vector<PreTokenizer>& stages, std::string_view piece, bool at_start,
                  const PieceSink& sink);

// The end of the match of each expression that begins at `at` < text.size().
size_t match_qwen(std::string_view text, size_t at);
size_t match_llama3(std::string_view text, size_t at);
size_t match_gpt4o(std::string_view text, size_t at);
size_t match_gpt2(std::string_view text, size_t at);

}  // namespace eep
