// safetensors: every field of the header damaged, every length cut; what the writer writes.
#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "loaders/formats/safetensors.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

// A file of the given header text and so many bytes of data.
std::string file_of(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i));
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

SafetensorsHeader parse(const std::string& file) {
  // A copy of exact size, so that a sanitizer sees a read past the end.
  const std::vector<uint8_t> bytes(file.begin(), file.end());
  return parse_safetensors(bytes.data(), bytes.size(), "f");
}

void refuse(const std::string& header, size_t data_bytes, const std::string& part) {
  INFO(header);
  check_error(ExitCode::kData, part, [&] { parse(file_of(header, data_bytes)); });
}

const std::string kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("empty":{"dtype":"BF16","shape":[0,5],"data_offsets":[24,24]},"a":{"dtype":"I64","shape":[],"data_offsets":[24,32]}}  )";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("safetensors: entries by offset, scalars and empty tensors") {
  const SafetensorsHeader header = parse(file_of(kGood, 32));
  REQUIRE(header.entries.size() == 3);
  CHECK(header.entries[0].name == "b");
  CHECK(header.entries[0].shape == std::vector<int64_t>{2, 3});
  CHECK(header.entries[0].offset == 8 + kGood.size());
  CHECK(header.entries[1].name == "empty");
  CHECK(header.entries[2].bytes == 8);
  CHECK(header.metadata == SafetensorsMetadata{{"format", "pt"}});
  CHECK(parse(file_of("{}", 0)).entries.empty());
  CHECK(parse(file_of(R"({"x":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}})", 2)).entries[0].bytes == 2);
}

TEST_CASE("safetensors: every field is checked") {
  const std::pair<std::string, std::pair<std::string, std::string>> damages[] = {
      {"\"F32\"", {"\"F31\"", "unknown dtype F31"}},
      {"\"F32\"", {"7", "dtype is not a string"}},
      {"\"F32\"", {"\"F64\"", "size does not match shape and dtype (expected 48 bytes, got 24)"}},
      {"[2,3]", {"[2,-3]", "an extent of the shape is not a whole number"}},
      {"[2,3]", {"[2,3.0]", "an extent of the shape is not a whole number"}},
      {"[2,3]", {"[2,4]", "size does not match shape and dtype (expected 32 bytes, got 24)"}},
      {"[2,3]", {"[4294967296,4294967296]", "shape too large"}},
      {"[2,3]", {"[4611686018427387904,2]", "shape too large"}},
      {"[2,3]", {"[18446744073709551615]", "shape too large"}},
      {"[2,3]", {"6", "shape is not a list"}},
      {"[0,24]", {"[0,25]", "size does not match"}},
      {"[0,24]", {"[24,0]", "data offsets outside the file"}},
      {"[0,24]", {"[0,99]", "data offsets outside the file (expected at most 32, got 0 to 99)"}},
      {"[0,24]", {"[-1,24]", "a data offset is not a whole number"}},
      {"[0,24]", {"[0,24,24]", "data_offsets is not a list of two"}},
      {"[0,24]", {"[8,32]", "tensor b: data does not follow"}},
      {"[24,32]", {"[16,24]", "tensor a: data does not follow"}},
      {"\"shape\":[2,3],", {"", "incomplete entry"}},
      {"\"shape\":[2,3],", {"\"shape\":[2,3],\"extra\":1,", "unknown field"}},
      {"{\"format\":\"pt\"}", {"{\"format\":1}", "__metadata__ value of \"format\" is not a string"}},
      {"{\"format\":\"pt\"}", {"[]", "__metadata__ is not an object"}},
      {"\"a\":{", {"\"b\":{", "duplicate key"}},
  };
  for (const auto& [from, damage] : damages) refuse(replaced(kGood, from, damage.first), 32, damage.second);
  refuse(kGood, 33, "file does not end with the last tensor (expected");
  refuse(R"({"x":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "do not fill whole bytes");
  refuse("[]", 0, "header does not start with '{'");
  refuse("", 0, "header does not start with '{'");
  refuse(R"({"x": 1})", 0, "malformed entry");
  check_error(ExitCode::kData, "header too long",
              [] { parse(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)); });
  check_error(ExitCode::kData, "truncated header (expected 99999999 bytes, got 2)",
              [] { parse(std::string("\xff\xe0\xf5\x05\0\0\0\0{}", 10)); });
}

TEST_CASE("safetensors: cut at every length, every bit of the header flipped") {
  const std::string file = file_of(kGood, 32);
  for (size_t length = 0; length < file.size(); ++length) {
    CHECK_THROWS_AS(parse(file.substr(0, length)), Error);
  }
  int loaded = 0;
  for (size_t bit = 0; bit < 8 * (8 + kGood.size()); ++bit) {
    std::string damaged = file;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    try {
      parse(damaged);
      ++loaded;  // a flipped letter of a name
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kData);
    }
  }
  CHECK(loaded > 0);
  std::mt19937 random(2);
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = file;
    for (unsigned i = 0; i < 1 + random() % 6; ++i) {
      damaged[random() % (8 + kGood.size())] = "0123456789[]{},:\"-abF"[random() % 21];
    }
    try {
      parse(damaged);
    } catch (const Error&) {
    }
  }
}

TEST_CASE("safetensors: what is written comes back, aligned") {
  const Scratch scratch;
  const std::vector<float> values = {1.5f, -2.0f, 0.25f, 3.0f, -0.0f, 7.0f};
  const uint16_t half = 0x3f80;
  const std::string path = scratch.path("x.safetensors");
  write_safetensors(path, {{{"logits.0", DType::kF32, {2, 3}}, values.data()},
                           {{"a \"quoted\" name", DType::kBF16, {}}, &half},
                           {{"none", DType::kF16, {0, 4}}, nullptr}});
  const SafetensorsFile file(path);
  REQUIRE(file.header.entries.size() == 3);
  CHECK(file.header.metadata == SafetensorsMetadata{{"format", "pt"}});
  const SafetensorsEntry* entry = file.find("logits.0");
  REQUIRE(entry != nullptr);
  CHECK(entry->dtype == "F32");
  CHECK(entry->offset % 8 == 0);
  CHECK(std::memcmp(file.data(*entry), values.data(), 24) == 0);
  REQUIRE(file.find("a \"quoted\" name") != nullptr);
  CHECK(file.find("a \"quoted\" name")->shape.empty());
  CHECK(file.find("absent") == nullptr);

  {
    SafetensorsWriter writer(scratch.path("y.safetensors"), {{"t", DType::kF32, {2, 3}}});
    writer.append(values.data(), 10);
    writer.append(reinterpret_cast<const char*>(values.data()) + 10, 14);
    CHECK_FALSE(file_exists(scratch.path("y.safetensors")));
    writer.commit();
  }
  const SafetensorsFile parts(scratch.path("y.safetensors"));
  CHECK(std::memcmp(parts.data(parts.header.entries[0]), values.data(), 24) == 0);
  CHECK(scratch.entries() == 2);
}

TEST_CASE("safetensors: files that cannot be mapped") {
  const Scratch scratch;
  check_error(ExitCode::kNoInput, "cannot open", [&] { SafetensorsFile file(scratch.path("none")); });
  check_error(ExitCode::kIo, "not a regular file", [&] { SafetensorsFile file(scratch.path()); });
  check_error(ExitCode::kData, "truncated (expected at least 8 bytes, got 0)",
              [&] { SafetensorsFile file(scratch.write("empty", "")); });
}

}  // namespace eep
