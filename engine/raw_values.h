// One element of a stored matrix that is not coded (element_of of coded_matrix.h reads any), whatever its
// dtype and layout. For checks and sums; products read packed weights.
#pragma once

#include "engine/raw_model.h"
#include "kernels/common/stored_value.h"

namespace eep {

inline float raw_value(const RawMatrix& matrix, int64_t row, int64_t column) {
  const auto element = static_cast<size_t>(row * matrix.row_stride + column * matrix.column_stride);
  const uint8_t* at = static_cast<const uint8_t*>(matrix.data) + element * dtype_size(matrix.dtype);
  return stored_value(at, matrix.dtype);
}

}  // namespace eep
