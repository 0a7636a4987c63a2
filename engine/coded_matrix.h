// Matrices that a checkpoint stores in 8 or 4 bits, as plain values: element (i, j) is the E4M3 or E2M1
// number times the scale of its block, multiplied in f32 and rounded once to the dtype of the checkpoint's
// other matrices. That is the value that a Python reference gives: (weight.float() *
// scale.float()).to(dtype). Of E2M1 times E8M0 it is exact in bf16 but for what lies beyond its range.
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

// Whether a scale of a coded matrix is so large that the largest code times it is beyond the range of the
// matrix's dtype: some element may be infinite though every stored number is finite. Reads the scales only.
bool may_overflow(const RawMatrix& matrix);

// Elements as they lie in a file: (i, j) at i * row_stride + j * column_stride elements.
struct StoredMatrix {
  const uint8_t* data = nullptr;
  size_t element = 1;  // bytes of one
  int64_t n = 0, k = 0;
  int64_t row_stride = 0, column_stride = 1;
};

StoredMatrix stored_values(const RawMatrix& matrix);  // of a matrix that is not coded
StoredMatrix stored_codes(const RawMatrix& matrix);   // of a coded one; of E2M1 the bytes of rows [n, k / 2]
StoredMatrix stored_scales(const RawMatrix& matrix);  // of a coded one

}  // namespace eep
