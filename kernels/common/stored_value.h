// One value as files store it, in f32.
#pragma once

#include <cstring>

#include "kernels/common/float16.h"
#include "kernels/common/tensor.h"

namespace eep {

// `at` needs no alignment.
inline float stored_value(const void* at, DType dtype) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return dtype == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

}  // namespace eep
