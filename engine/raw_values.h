// One element of a stored matrix that is not coded (element_of of coded_matrix.h reads any), whatever its dtype and
// layout. For checks and sums; products read packed weights.
#pragma once

#include <cstring>

#include "engine/raw_model.h"
#include "kernels/common/float16.h"

namespace eep {

inline float raw_value(const RawMatrix& matrix, int64_t row, int64_t column) {
  const auto element = static_cast<size_t>(row * matrix.row_stride + column * matrix.column_stride);
  const uint8_t* at = static_cast<const uint8_t*>(matrix.data) + element * dtype_size(matrix.dtype);
  if (matrix.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return matrix.dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

}  // namespace eep
