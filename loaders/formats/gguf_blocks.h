// The number formats of GGUF tensors: plain ones and blocks of 32 or 256 weights that share scales. Those
// without a name here are copied, never read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace eep {

enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ6_K = 14,
  kBF16 = 30,
  kMXFP4 = 39
};

std::optional<GgufType> gguf_type(uint32_t number);         // none: not read
std::optional<GgufType> gguf_stored_type(uint32_t number);  // none: its size is not known either
std::string gguf_type_name(uint32_t number);
int64_t gguf_block_elements(GgufType type);
size_t gguf_block_bytes(GgufType type);

// Of a type that is read. values[0..count): `count` is a whole number of blocks. Every product and sum is
// exact in f32 or rounded once a step, in the order of the format's reference.
void gguf_dequantise(GgufType type, const uint8_t* blocks, int64_t count, float* values);

}  // namespace eep
