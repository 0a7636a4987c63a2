#include "loaders/formats/gguf_blocks.h"

#include <cstring>

#include "kernels/common/float16.h"
#include "kernels/common/float8.h"

namespace eep {

namespace {

uint16_t u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
uint32_t u32(const uint8_t* p) {
  return static_cast<uint32_t>(u16(p)) | static_cast<uint32_t>(u16(p + 2)) << 16;
}
float half(const uint8_t* p) { return f16_to_f32(u16(p)); }

struct Format {
  GgufType type;
  const char* name;
  int64_t elements;
  size_t bytes;
  void (*block)(const uint8_t* p, float* y);
};

void f32_block(const uint8_t* p, float* y) { std::memcpy(y, p, sizeof(float)); }
void f16_block(const uint8_t* p, float* y) { *y = half(p); }
void bf16_block(const uint8_t* p, float* y) { *y = bf16_to_f32(u16(p)); }

// f16 d, 16 bytes of nibbles: d * (q - 8); weight j in the low half of byte j, j + 16 in the high half.
void q4_0_block(const uint8_t* p, float* y) {
  const float d = half(p);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((p[2 + j] & 15) - 8) * d;
    y[j + 16] = static_cast<float>((p[2 + j] >> 4) - 8) * d;
  }
}

// f16 d, f16 m, nibbles: d * q + m.
void q4_1_block(const uint8_t* p, float* y) {
  const float d = half(p), m = half(p + 2);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(p[4 + j] & 15) * d + m;
    y[j + 16] = static_cast<float>(p[4 + j] >> 4) * d + m;
  }
}

// f16 d, 32 fifth bits, nibbles: d * (q - 16).
void q5_0_block(const uint8_t* p, float* y) {
  const float d = half(p);
  const uint32_t high = u32(p + 2);
  for (int j = 0; j < 16; ++j) {
    const int low = (p[6 + j] & 15) | static_cast<int>((high >> j & 1) << 4);
    const int top = (p[6 + j] >> 4) | static_cast<int>((high >> (j + 16) & 1) << 4);
    y[j] = static_cast<float>(low - 16) * d;
    y[j + 16] = static_cast<float>(top - 16) * d;
  }
}

// f16 d, f16 m, 32 fifth bits, nibbles: d * q + m.
void q5_1_block(const uint8_t* p, float* y) {
  const float d = half(p), m = half(p + 2);
  const uint32_t high = u32(p + 4);
  for (int j = 0; j < 16; ++j) {
    const int low = (p[8 + j] & 15) | static_cast<int>((high >> j & 1) << 4);
    const int top = (p[8 + j] >> 4) | static_cast<int>((high >> (j + 16) & 1) << 4);
    y[j] = static_cast<float>(low) * d + m;
    y[j + 16] = static_cast<float>(top) * d + m;
  }
}

// f16 d, 32 signed bytes: d * q.
void q8_0_block(const uint8_t* p, float* y) {
  const float d = half(p);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(static_cast<int8_t>(p[2 + j])) * d;
}

// An E8M0 scale, 16 bytes of E2M1 numbers, in the order of Q4_0.
void mxfp4_block(const uint8_t* p, float* y) {
  const float d = e8m0_to_f32(p[0]);
  for (int j = 0; j < 16; ++j) {
    y[j] = e2m1_to_f32(p[1 + j]) * d;
    y[j + 16] = e2m1_to_f32(static_cast<uint8_t>(p[1 + j] >> 4)) * d;
  }
}

// The 6-bit scale and minimum of sub-block j of Q4_K, packed in 12 bytes.
void scale_and_minimum(const uint8_t* packed, int j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *minimum = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    *minimum = (packed[j + 4] >> 4) | (packed[j] >> 6) << 4;
  }
}

// f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles in 8 sub-blocks of 32: d * scale * q - dmin *
// min.
void q4_k_block(const uint8_t* p, float* y) {
  const float d = half(p), dmin = half(p + 2);
  const uint8_t* quants = p + 16;
  for (int pair = 0; pair < 4; ++pair, quants += 32, y += 64) {
    for (int part = 0; part < 2; ++part) {
      int scale, minimum;
      scale_and_minimum(p + 4, 2 * pair + part, &scale, &minimum);
      const float step = d * static_cast<float>(scale), low = dmin * static_cast<float>(minimum);
      for (int j = 0; j < 32; ++j) {
        const int q = part == 0 ? quants[j] & 15 : quants[j] >> 4;
        y[32 * part + j] = step * static_cast<float>(q) - low;
      }
    }
  }
}

// 128 bytes of low nibbles, 64 of high pairs of bits, 16 signed scales, f16 d: d * scale * (q - 32).
void q6_k_block(const uint8_t* p, float* y) {
  const float d = half(p + 208);
  for (int part = 0; part < 2; ++part, y += 128) {
    const uint8_t* low = p + 64 * part;
    const uint8_t* high = p + 128 + 32 * part;
    const uint8_t* scales = p + 192 + 8 * part;
    for (int j = 0; j < 32; ++j) {
      for (int quarter = 0; quarter < 4; ++quarter) {
        const uint8_t byte = low[j + 32 * (quarter & 1)];
        const int nibble = quarter < 2 ? byte & 15 : byte >> 4;
        const int q = (nibble | (high[j] >> (2 * quarter) & 3) << 4) - 32;
        const float scale = static_cast<float>(static_cast<int8_t>(scales[j / 16 + 2 * quarter]));
        y[32 * quarter + j] = d * scale * static_cast<float>(q);
      }
    }
  }
}

constexpr Format kFormats[] = {
    {GgufType::kF32, "F32", 1, 4, f32_block},
    {GgufType::kF16, "F16", 1, 2, f16_block},
    {GgufType::kBF16, "BF16", 1, 2, bf16_block},
    {GgufType::kQ4_0, "Q4_0", 32, 18, q4_0_block},
    {GgufType::kQ4_1, "Q4_1", 32, 20, q4_1_block},
    {GgufType::kQ5_0, "Q5_0", 32, 22, q5_0_block},
    {GgufType::kQ5_1, "Q5_1", 32, 24, q5_1_block},
    {GgufType::kQ8_0, "Q8_0", 32, 34, q8_0_block},
    {GgufType::kQ4_K, "Q4_K", 256, 144, q4_k_block},
    {GgufType::kQ6_K, "Q6_K", 256, 210, q6_k_block},
    {GgufType::kMXFP4, "MXFP4", 32, 17, mxfp4_block},
    {GgufType{9}, "Q8_1", 32, 36, nullptr},
    {GgufType{10}, "Q2_K", 256, 84, nullptr},
    {GgufType{11}, "Q3_K", 256, 110, nullptr},
    {GgufType{13}, "Q5_K", 256, 176, nullptr},
    {GgufType{15}, "Q8_K", 256, 292, nullptr},
    {GgufType{16}, "IQ2_XXS", 256, 66, nullptr},
    {GgufType{17}, "IQ2_XS", 256, 74, nullptr},
    {GgufType{18}, "IQ3_XXS", 256, 98, nullptr},
    {GgufType{19}, "IQ1_S", 256, 50, nullptr},
    {GgufType{20}, "IQ4_NL", 32, 18, nullptr},
    {GgufType{21}, "IQ3_S", 256, 110, nullptr},
    {GgufType{22}, "IQ2_S", 256, 82, nullptr},
    {GgufType{23}, "IQ4_XS", 256, 136, nullptr},
    {GgufType{24}, "I8", 1, 1, nullptr},
    {GgufType{25}, "I16", 1, 2, nullptr},
    {GgufType{26}, "I32", 1, 4, nullptr},
    {GgufType{27}, "I64", 1, 8, nullptr},
    {GgufType{28}, "F64", 1, 8, nullptr},
    {GgufType{29}, "IQ1_M", 256, 56, nullptr},
    {GgufType{34}, "TQ1_0", 256, 54, nullptr},
    {GgufType{35}, "TQ2_0", 256, 66, nullptr},
};

const Format& format_of(GgufType type) {
  for (const Format& format : kFormats) {
    if (format.type == type) return format;
  }
  return kFormats[0];
}

}  // namespace

std::optional<GgufType> gguf_stored_type(uint32_t number) {
  for (const Format& format : kFormats) {
    if (static_cast<uint32_t>(format.type) == number) return format.type;
  }
  return std::nullopt;
}

std::optional<GgufType> gguf_type(uint32_t number) {
  const std::optional<GgufType> stored = gguf_stored_type(number);
  return stored && format_of(*stored).block != nullptr ? stored : std::nullopt;
}

std::string gguf_type_name(uint32_t number) {
  if (const std::optional<GgufType> known = gguf_stored_type(number)) return format_of(*known).name;
  return "type " + std::to_string(number);
}

int64_t gguf_block_elements(GgufType type) { return format_of(type).elements; }
size_t gguf_block_bytes(GgufType type) { return format_of(type).bytes; }

void gguf_dequantise(GgufType type, const uint8_t* blocks, int64_t count, float* values) {
  const Format& format = format_of(type);
  for (int64_t i = 0; i < count; i += format.elements, blocks += format.bytes)
    format.block(blocks, values + i);
}

}  // namespace eep
