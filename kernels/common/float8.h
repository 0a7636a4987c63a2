// The 8- and 4-bit formats of quantised checkpoints, to f32, exactly. E4M3 (the finite kind): 4 bits of
// exponent with bias 7, 3 of mantissa, no infinity, NaN where all seven bits are set. E8M0: a power of two,
// 2^(bits - 127), NaN for 255. E2M1: 2 bits of exponent with bias 1, 1 of mantissa, all finite; files hold
// two in a byte of dtype U8 (MXFP4), and E8M0 scales in U8 as well.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace eep {

// What files hold in 8 bits and no op computes on, beside the dtypes of tensor.h.
enum class Code : uint8_t { kNone, kE4M3, kE8M0, kE2M1, kByte };

constexpr const char* code_name(Code code) {
  return code == Code::kE4M3 ? "F8_E4M3" : code == Code::kE8M0 ? "F8_E8M0" : code == Code::kByte ? "U8" : "?";
}

constexpr Code code_named(std::string_view name) {
  return name == "F8_E4M3"   ? Code::kE4M3
         : name == "F8_E8M0" ? Code::kE8M0
         : name == "U8"      ? Code::kByte
                             : Code::kNone;
}

constexpr float e4m3_to_f32(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
  const uint32_t exponent = bits >> 3 & 15u, mantissa = bits & 7u;
  if ((bits & 0x7fu) == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) / 512.0f;  // 2^(1 - 7 - 3)
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 120u) << 23 | mantissa << 20);
}

constexpr float e2m1_to_f32(uint8_t bits) {  // of the low four
  constexpr float kMagnitude[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return (bits & 8u) != 0 ? -kMagnitude[bits & 7u] : kMagnitude[bits & 7u];
}

constexpr float e8m0_to_f32(uint8_t bits) {
  if (bits == 0xff) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(bits == 0 ? 0x00400000u : static_cast<uint32_t>(bits) << 23);
}

}  // namespace eep
