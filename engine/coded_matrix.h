// Matrices that a checkpoint stores in 8 bits, as plain values: element (i, j) is the E4M3 number times the
// scale of its block, multiplied in f32 and rounded once to the dtype of the checkpoint's other matrices. That
// is the value that a Python reference gives: (weight.float() * scale.float()).to(dtype).
#pragma once

#include <cstdint>

#include "engine/raw_model.h"
#include "kernels/common/tensor.h"

namespace eep {

// Rows [begin, end) of a coded matrix, row-major, [end - begin, k] of matrix.dtype.
void decode_rows(const RawMatrix& matrix, int64_t begin, int64_t end, void* out);

// A matrix that is not coded: the same one, or its values in `storage`, which is grown where it must be.
RawMatrix decoded(const RawMatrix& matrix, Buffer& storage);

// One element of any matrix, coded or not.
float element_of(const RawMatrix& matrix, int64_t row, int64_t column);

// Elements as they lie in a file: (i, j) at i * row_stride + j * column_stride elements.
struct StoredMatrix {
  const uint8_t* data = nullptr;
  size_t element = 1;  // bytes of one
  int64_t n = 0, k = 0;
  int64_t row_stride = 0, column_stride = 1;
};

StoredMatrix stored_values(const RawMatrix& matrix);  // of a matrix that is not coded
StoredMatrix stored_codes(const RawMatrix& matrix);   // of a coded one
StoredMatrix stored_scales(const RawMatrix& matrix);  // of a coded one

}  // namespace eep
