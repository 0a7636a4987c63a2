// utf8proc gives categories, decompositions and compositions; its one-call normalisation is not used because
// it sorts long runs of combining marks in quadratic time.
#include "loaders/formats/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace eep {

CodePoint decode_utf8_slow(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned lead = byte(0);
  size_t length = 0;
  unsigned low = 0x80, high = 0xbf;  // of the second byte: no overlong forms, surrogates, or beyond U+10FFFF
  uint32_t value = 0;
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
    value = lead & 0x1f;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    value = lead & 0x0f;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    value = lead & 0x07;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {kInvalidCodePoint, 1};
  }
  for (size_t i = 1; i < length; ++i) {
    if (at + i >= text.size() || byte(i) < low || byte(i) > high) {
      return {kInvalidCodePoint, static_cast<uint32_t>(i)};
    }
    value = value << 6 | (byte(i) & 0x3f);
    low = 0x80;
    high = 0xbf;
  }
  return {value, static_cast<uint32_t>(length)};
}

void append_utf8(std::string& text, uint32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
    return;
  }
  if (c < 0x800) {
    text += static_cast<char>(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      text += static_cast<char>(0xe0 | c >> 12);
    } else {
      text += static_cast<char>(0xf0 | c >> 18);
      text += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    }
    text += static_cast<char>(0x80 | (c >> 6 & 0x3f));
  }
  text += static_cast<char>(0x80 | (c & 0x3f));
}

namespace {

// The first position at or after `at` that is not ASCII.
size_t skip_ascii(std::string_view text, size_t at) {
  uint64_t word;
  for (; at + sizeof(word) <= text.size(); at += sizeof(word)) {
    std::memcpy(&word, text.data() + at, sizeof(word));
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  for (size_t at = skip_ascii(text, 0); at < text.size(); at = skip_ascii(text, at)) {
    const CodePoint c = decode_utf8_slow(text, at);
    if (c.value == kInvalidCodePoint) return false;
    at += c.bytes;
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    if (c.value == kInvalidCodePoint) {
      valid += "\xef\xbf\xbd";
    } else {
      valid.append(text, at, c.bytes);
    }
    at += c.bytes;
  }
  return valid;
}

CharClass classify_slow(uint32_t c) {
  if (c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
      c == 0x202f || c == 0x205f || c == 0x3000) {
    return CharClass::kSpace;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::kNumber;
    default:
      return c < 128 ? kAsciiClass[c] : CharClass::kOther;
  }
}

LetterCase letter_case_slow(uint32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LL:
      return LetterCase::kLower;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return LetterCase::kUpper;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return LetterCase::kEither;
    default:
      return LetterCase::kNone;
  }
}

bool is_word_character(uint32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // joiners, and the circled and squared letters, which are alphabetic symbols
      return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
             (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
  }
}

bool is_surely_nfc(std::string_view text) {
  // Blocks in which every character is a starter that neither decomposes canonically nor composes with a
  // character before it.
  struct Range {
    uint32_t first, last;
  };
  static constexpr Range kPlain[] = {{0x00, 0x2ff},    {0x388, 0x481},   {0x2010, 0x2027},
                                     {0x2030, 0x205e}, {0x3001, 0x3029}, {0x3041, 0x3096},
                                     {0x30a1, 0x30ff}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3},
                                     {0xff01, 0xff5e}, {0xfffd, 0xfffd}, {0x1f300, 0x1faff}};
  for (size_t at = skip_ascii(text, 0); at < text.size(); at = skip_ascii(text, at)) {
    const CodePoint c = decode_utf8_slow(text, at);
    const auto inside = [&](const Range& range) { return c.value >= range.first && c.value <= range.last; };
    if (!std::any_of(std::begin(kPlain), std::end(kPlain), inside)) return false;
    at += c.bytes;
  }
  return true;
}

std::string to_nfc(std::string_view text) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    at += c.bytes;
    utf8proc_int32_t parts[8];  // the longest canonical decomposition has four
    int last_class = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.value), parts, 8,
                                               UTF8PROC_DECOMPOSE, &last_class);
    points.insert(points.end(), parts, parts + std::clamp<utf8proc_ssize_t>(count, 0, 8));
  }
  const auto combining = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (size_t i = 0; i < points.size();) {
    size_t end = i;
    while (end < points.size() && combining(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + static_cast<ptrdiff_t>(i), points.begin() + static_cast<ptrdiff_t>(end),
                     [&](auto a, auto b) { return combining(a) < combining(b); });
    i = end + 1;
  }
  const auto composed =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  std::string normal;
  normal.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < composed; ++i)
    append_utf8(normal, static_cast<uint32_t>(points[static_cast<size_t>(i)]));
  return normal;
}

}  // namespace eep
