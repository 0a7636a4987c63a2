// A block at a time: its elements have one scale.
#include "engine/coded_matrix.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "engine/raw_values.h"
#include "kernels/common/float16.h"
#include "kernels/common/float8.h"
#include "kernels/common/stored_value.h"

namespace eep {
namespace {

constexpr std::array<float, 256> kE4M3 = [] {
  std::array<float, 256> values{};
  for (size_t bits = 0; bits < values.size(); ++bits) values[bits] = e4m3_to_f32(static_cast<uint8_t>(bits));
  return values;
}();

size_t scale_size(const BlockScales& scales) {
  return scales.code == Code::kE8M0 ? 1 : dtype_size(scales.dtype);
}

float scale_at(const BlockScales& scales, int64_t row, int64_t column) {
  const int64_t block = (scales.first_row + row) / scales.block_rows * scales.row_stride +
                        (scales.first_column + column) / scales.block_columns * scales.column_stride;
  const auto* at = static_cast<const uint8_t*>(scales.data) + static_cast<size_t>(block) * scale_size(scales);
  return scales.code == Code::kE8M0 ? e8m0_to_f32(*at) : stored_value(at, scales.dtype);
}

struct RoundF32 {
  using Value = float;
  static float round(float value) { return value; }
};
struct RoundF16 {
  using Value = uint16_t;
  static uint16_t round(float value) { return f32_to_f16(value); }
};
struct RoundBF16 {
  using Value = uint16_t;
  static uint16_t round(float value) { return f32_to_bf16(value); }
};

// Columns [first, last) of rows [begin, end), all of one block.
template <typename Round>
void decode_block(const RawMatrix& matrix, int64_t begin, int64_t end, int64_t first, int64_t last,
                  typename Round::Value* out) {  // [end - begin, k]
  using Value = typename Round::Value;
  const float scale = scale_at(matrix.scales, begin, first);
  const auto* codes = static_cast<const uint8_t*>(matrix.data);
  const int64_t step = matrix.column_stride;
  for (int64_t row = begin; row < end; ++row) {
    const uint8_t* from = codes + row * matrix.row_stride + first * step;
    Value* to = out + (row - begin) * matrix.k + first;
    const int64_t count = last - first;
    if (step == 1) {
      for (int64_t i = 0; i < count; ++i) to[i] = Round::round(kE4M3[from[i]] * scale);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = Round::round(kE4M3[from[i * step]] * scale);
    }
  }
}

template <typename Round>
void decode(const RawMatrix& matrix, int64_t begin, int64_t end, void* out) {
  const BlockScales& scales = matrix.scales;
  auto* const values = static_cast<typename Round::Value*>(out);
  const auto past = [](int64_t at, int64_t origin, int64_t block) {  // the end of its block
    return ((origin + at) / block + 1) * block - origin;
  };
  for (int64_t row = begin; row < end;) {
    const int64_t next_row = std::min(end, past(row, scales.first_row, scales.block_rows));
    for (int64_t column = 0; column < matrix.k;) {
      const int64_t next = std::min(matrix.k, past(column, scales.first_column, scales.block_columns));
      decode_block<Round>(matrix, row, next_row, column, next, values + (row - begin) * matrix.k);
      column = next;
    }
    row = next_row;
  }
}

}  // namespace

void decode_rows(const RawMatrix& matrix, int64_t begin, int64_t end, void* out) {
  assert(matrix.coded());
  switch (matrix.dtype) {
    case DType::kF16:
      return decode<RoundF16>(matrix, begin, end, out);
    case DType::kBF16:
      return decode<RoundBF16>(matrix, begin, end, out);
    default:
      return decode<RoundF32>(matrix, begin, end, out);
  }
}

RawMatrix decoded(const RawMatrix& matrix, Buffer& storage) {
  if (!matrix.coded()) return matrix;
  const size_t bytes = static_cast<size_t>(matrix.n * matrix.k) * dtype_size(matrix.dtype);
  if (storage.bytes() < bytes) storage = Buffer(bytes);
  decode_rows(matrix, 0, matrix.n, storage.data());
  return {storage.data(), matrix.dtype, matrix.n, matrix.k, matrix.k, 1};
}

float element_of(const RawMatrix& matrix, int64_t row, int64_t column) {
  if (!matrix.coded()) return raw_value(matrix, row, column);
  const int64_t at = row * matrix.row_stride + column * matrix.column_stride;
  const float code = e4m3_to_f32(static_cast<const uint8_t*>(matrix.data)[at]);
  const float product = code * scale_at(matrix.scales, row, column);
  if (matrix.dtype == DType::kF16) return f16_to_f32(f32_to_f16(product));
  return matrix.dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(product)) : product;
}

StoredMatrix stored_values(const RawMatrix& matrix) {
  return {static_cast<const uint8_t*>(matrix.data),
          dtype_size(matrix.dtype),
          matrix.n,
          matrix.k,
          matrix.row_stride,
          matrix.column_stride};
}

StoredMatrix stored_codes(const RawMatrix& matrix) {
  StoredMatrix codes = stored_values(matrix);
  codes.element = 1;
  return codes;
}

StoredMatrix stored_scales(const RawMatrix& matrix) {
  const BlockScales& scales = matrix.scales;
  const auto blocks = [](int64_t first, int64_t count, int64_t block) {  // that the matrix has a part of
    return (first + count + block - 1) / block - first / block;
  };
  const int64_t first = scales.first_row / scales.block_rows * scales.row_stride +
                        scales.first_column / scales.block_columns * scales.column_stride;
  return {static_cast<const uint8_t*>(scales.data) + static_cast<size_t>(first) * scale_size(scales),
          scale_size(scales),
          blocks(scales.first_row, matrix.n, scales.block_rows),
          blocks(scales.first_column, matrix.k, scales.block_columns),
          scales.row_stride,
          scales.column_stride};
}

}  // namespace eep
