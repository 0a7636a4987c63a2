// UTF-8, the character classes that tokenizers split by, and normal form C. Unicode 15.0, by utf8proc.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace eep {

struct CodePoint {
  uint32_t value = 0;  // kInvalidCodePoint: not UTF-8
  uint32_t bytes = 0;  // of an invalid part: its maximal length as in the Unicode standard, at least 1
};
inline constexpr uint32_t kInvalidCodePoint = 0xffffffffu;

CodePoint decode_utf8_slow(std::string_view text, size_t at);

// The character at `at` < text.size().
inline CodePoint decode_utf8(std::string_view text, size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte < 0x80 ? CodePoint{byte, 1} : decode_utf8_slow(text, at);
}

void append_utf8(std::string& text, uint32_t code_point);
bool is_valid_utf8(std::string_view text);
std::string replace_invalid_utf8(std::string_view text);  // U+FFFD for each maximal invalid part

enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };  // \p{L}, \p{N}, White_Space

CharClass classify_slow(uint32_t code_point);

inline constexpr std::array<CharClass, 128> kAsciiClass = [] {
  std::array<CharClass, 128> table{};
  for (size_t c = 0; c < 128; ++c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) table[c] = CharClass::kLetter;
    if (c >= '0' && c <= '9') table[c] = CharClass::kNumber;
    if (c == ' ' || (c >= 9 && c <= 13)) table[c] = CharClass::kSpace;
  }
  return table;
}();

inline CharClass classify(uint32_t code_point) {
  return code_point < 128 ? kAsciiClass[code_point] : classify_slow(code_point);
}

// \p{Ll}, [\p{Lu}\p{Lt}], [\p{Lm}\p{Lo}\p{M}] and the rest.
enum class LetterCase : uint8_t { kNone, kLower, kUpper, kEither };

LetterCase letter_case_slow(uint32_t code_point);

inline LetterCase letter_case(uint32_t code_point) {
  if (code_point >= 128) return letter_case_slow(code_point);
  if (code_point >= 'a' && code_point <= 'z') return LetterCase::kLower;
  return code_point >= 'A' && code_point <= 'Z' ? LetterCase::kUpper : LetterCase::kNone;
}

bool is_word_character(uint32_t code_point);  // \w of Unicode regular expressions

// True only if the text is in normal form C; false when that is not plain from the single characters.
bool is_surely_nfc(std::string_view text);
std::string to_nfc(std::string_view text);  // of valid UTF-8; linear-logarithmic

}  // namespace eep
