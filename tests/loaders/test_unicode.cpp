// UTF-8, classes and normal form C.
#include <doctest/doctest.h>
#include <utf8proc.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <sstream>
#include <vector>

#include "loaders/formats/unicode.h"

namespace eep {
namespace {

std::string utf8(std::initializer_list<uint32_t> points) {
  std::string text;
  for (uint32_t point : points) append_utf8(text, point);
  return text;
}

// utf8proc's own call, quadratic but independent of ours.
std::string reference_nfc(const std::string& text) {
  utf8proc_uint8_t* result = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  REQUIRE(length >= 0);
  std::string normal(reinterpret_cast<const char*>(result), static_cast<size_t>(length));
  std::free(result);
  return normal;
}

}  // namespace

TEST_CASE("unicode: every scalar goes to UTF-8 and back") {
  for (uint32_t point = 0; point < 0x110000; ++point) {
    if (point >= 0xd800 && point < 0xe000) continue;
    const std::string text = utf8({point});
    const CodePoint back = decode_utf8(text, 0);
    if (back.value != point || back.bytes != text.size()) FAIL("code point " << point);
  }
  CHECK(utf8({0x41, 0xe9, 0x20ac, 0x1f600}) == "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
}

TEST_CASE("unicode: invalid parts are replaced one by one, as the standard recommends") {
  const std::string r = "\xef\xbf\xbd";
  CHECK(replace_invalid_utf8("a\x80z") == "a" + r + "z");
  CHECK(replace_invalid_utf8("\xc0\xaf") == r + r);                  // overlong
  CHECK(replace_invalid_utf8("\xe0\x80\xaf") == r + r + r);          // overlong
  CHECK(replace_invalid_utf8("\xed\xa0\x80") == r + r + r);          // surrogate
  CHECK(replace_invalid_utf8("\xf4\x90\x80\x80") == r + r + r + r);  // beyond U+10FFFF
  CHECK(replace_invalid_utf8("\xf0\x9f\x98") == r);                  // cut short: one part
  CHECK(replace_invalid_utf8("\xf0\x9f\x98z") == r + "z");
  CHECK(replace_invalid_utf8("\xe2\x82\xe2\x82\xac") == r + "\xe2\x82\xac");
  CHECK(replace_invalid_utf8("plain text, longer than a word") == "plain text, longer than a word");
  CHECK(is_valid_utf8("0123456789abcdef\xc3\xa9"));
  CHECK_FALSE(is_valid_utf8("0123456789abcdef\xc3"));
  std::mt19937 random(1);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes;
    for (auto i = random() % 12; i > 0; --i) bytes += static_cast<char>(random());
    CHECK(is_valid_utf8(replace_invalid_utf8(bytes)));
  }
}

TEST_CASE("unicode: classes") {
  for (uint32_t blank : {0x9u, 0xau, 0xdu, 0x20u, 0x85u, 0xa0u, 0x1680u, 0x2000u, 0x200au, 0x2028u, 0x202fu,
                         0x205fu, 0x3000u}) {
    CHECK(classify(blank) == CharClass::kSpace);
  }
  for (uint32_t other :
       {0x0u, 0x8u, 0xeu, 0x1fu, 0x21u, 0x27u, 0x5fu, 0x7fu, 0x180eu, 0x200bu, 0x301u, 0x1f600u, 0xfffdu}) {
    CHECK(classify(other) == CharClass::kOther);
  }
  for (uint32_t letter : {0x41u, 0x7au, 0xaau, 0xe9u, 0x17fu, 0x4e2du, 0xac00u, 0x1d400u}) {
    CHECK(classify(letter) == CharClass::kLetter);
  }
  for (uint32_t number : {0x30u, 0xb2u, 0xbdu, 0x661u, 0x2167u, 0x1d7ceu})
    CHECK(classify(number) == CharClass::kNumber);
  CHECK(is_word_character('_'));
  CHECK(is_word_character(0x301));
  CHECK(is_word_character(0x24b6));
  CHECK_FALSE(is_word_character('-'));
  CHECK_FALSE(is_word_character(0x1f600));
}

TEST_CASE("unicode: normal form C equals utf8proc's, and what is surely normal is") {
  CHECK(to_nfc("e\xcc\x81") == "\xc3\xa9");
  CHECK(to_nfc(utf8({0x1e9b, 0x323})) == utf8({0x1e9b, 0x323}));
  CHECK(to_nfc(utf8({0x212b})) == utf8({0xc5}));
  CHECK(to_nfc(utf8({0x1112, 0x1161, 0x11ab})) == utf8({0xd55c}));
  CHECK(to_nfc(utf8({0x958})) == utf8({0x915, 0x93c}));  // excluded from composition
  CHECK(to_nfc(utf8({'a', 0, 'e', 0x301})) == utf8({'a', 0, 0xe9}));

  std::vector<uint32_t> interesting;
  for (uint32_t point = 0; point < 0x30000; ++point) {
    if (point >= 0xd800 && point < 0xe000) continue;
    const auto signed_point = static_cast<utf8proc_int32_t>(point);
    const utf8proc_property_t* property = utf8proc_get_property(signed_point);
    const bool surely = is_surely_nfc(utf8({point}));
    if (surely && (property->combining_class != 0 || reference_nfc(utf8({point})) != utf8({point}))) {
      FAIL("U+" << std::hex << point << " is not in normal form");
    }
    if (property->combining_class != 0 || property->comb_index != UINT16_MAX ||
        reference_nfc(utf8({point})) != utf8({point})) {
      interesting.push_back(point);
    }
  }
  CHECK(interesting.size() > 1000);
  std::mt19937 random(2);
  for (int round = 0; round < 50000; ++round) {
    std::string text;
    for (auto i = 1 + random() % 6; i > 0; --i) append_utf8(text, interesting[random() % interesting.size()]);
    const std::string expected = reference_nfc(text);
    if (to_nfc(text) != expected) FAIL("round " << round);
    if (is_surely_nfc(text) && text != expected) FAIL("surely normal, round " << round);
  }
}

TEST_CASE("unicode: a million combining marks do not take a million squared") {
  std::string marks = "a";
  for (int i = 0; i < 1000000; ++i) append_utf8(marks, i % 2 == 0 ? 0x301 : 0x323);
  const std::string normal = to_nfc(marks);
  CHECK(to_nfc(normal) == normal);
}

TEST_CASE("unicode: the conformance test of normalisation, where it is installed") {
  const char* given = std::getenv("EEP_NORMALIZATION_TEST");
  const std::string path = given != nullptr ? given : "/usr/share/unicode/NormalizationTest.txt.bz2";
  FILE* pipe = std::filesystem::exists(path) ? ::popen(("bzip2 -dc " + path).c_str(), "r") : nullptr;
  if (pipe == nullptr) {
    MESSAGE(path << " is not there, skipped (Debian: unicode-data)");
    return;
  }
  std::string text;
  char block[4096];
  for (size_t count; (count = std::fread(block, 1, sizeof(block), pipe)) > 0;) text.append(block, count);
  REQUIRE(::pclose(pipe) == 0);

  int count = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#' || line[0] == '@') continue;
    std::string columns[5];  // source, NFC, NFD, NFKC, NFKD
    std::istringstream fields(line);
    for (std::string& column : columns) {
      std::string field;
      std::getline(fields, field, ';');
      std::istringstream points(field);
      for (uint32_t point; points >> std::hex >> point;) append_utf8(column, point);
    }
    const bool canonical = to_nfc(columns[0]) == columns[1] && to_nfc(columns[1]) == columns[1] &&
                           to_nfc(columns[2]) == columns[1];
    const bool compatible = to_nfc(columns[3]) == columns[3] && to_nfc(columns[4]) == columns[3];
    const bool surely = !is_surely_nfc(columns[0]) || columns[0] == columns[1];
    if (!canonical || !compatible || !surely) FAIL_CHECK(line);
    ++count;
  }
  CHECK(count > 15000);
}

}  // namespace eep
