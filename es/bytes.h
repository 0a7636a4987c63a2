// bytes: little-endian numbers written to and read from byte strings; reading past the end is an
// Error(kData).
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {

template <typename T>
using UnsignedOf = std::conditional_t<
    sizeof(T) == 1, uint8_t,
    std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>;

template <typename T>
void put(T value, std::string& out) {
  const auto bits = std::bit_cast<UnsignedOf<T>>(value);
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>((bits >> (8 * i)) & 0xff));
}

inline std::string_view take_bytes(std::string_view& bytes, size_t count, const char* where) {
  if (bytes.size() < count) {
    throw Error(ExitCode::kData, where,
                "truncated" + expected_got(std::to_string(count) + " more bytes", bytes.size()));
  }
  const std::string_view front = bytes.substr(0, count);
  bytes.remove_prefix(count);
  return front;
}

template <typename T>
T take(std::string_view& bytes, const char* where) {
  const std::string_view front = take_bytes(bytes, sizeof(T), where);
  UnsignedOf<T> bits = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    const auto byte = static_cast<UnsignedOf<T>>(static_cast<unsigned char>(front[i]));
    bits = static_cast<UnsignedOf<T>>(bits | static_cast<UnsignedOf<T>>(byte << (8 * i)));
  }
  return std::bit_cast<T>(bits);
}

}  // namespace eep
