// Blocks that lie side by side at a time: the elements of each have one scale.
#include "engine/coded_matrix.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

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

float stored_scale(const uint8_t* at, const BlockScales& scales) {
  return scales.code == Code::kE8M0 ? e8m0_to_f32(*at) : stored_value(at, scales.dtype);
}

float scale_at(const BlockScales& scales, int64_t row, int64_t column) {
  const int64_t block = (scales.first_row + row) / scales.block_rows * scales.row_stride +
                        (scales.first_column + column) / scales.block_columns * scales.column_stride;
  const auto* at = static_cast<const uint8_t*>(scales.data) + static_cast<size_t>(block) * scale_size(scales);
  return stored_scale(at, scales);
}

float rounded(float value, DType dtype) {
  if (dtype == DType::kF16) return f16_to_f32(f32_to_f16(value));
  return dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : value;
}

// An E2M1 number, as it lies in its byte.
uint8_t half_byte(const uint8_t* codes, int64_t at) {
  return static_cast<uint8_t>(codes[at / 2] >> (at % 2 * 4) & 15);
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

// The two E2M1 numbers of each byte times each E8M0 scale, rounded.
template <typename Round>
struct ScaledHalves {
  using Pair = std::array<typename Round::Value, 2>;
  std::array<std::array<Pair, 256>, 256> of;  // [scale][byte]
};

template <typename Round>
const ScaledHalves<Round>& scaled_halves() {
  static const auto table = [] {
    auto values = std::make_unique<ScaledHalves<Round>>();
    for (size_t scale = 0; scale < 256; ++scale) {
      const float factor = e8m0_to_f32(static_cast<uint8_t>(scale));
      for (size_t byte = 0; byte < 256; ++byte) {
        values->of[scale][byte] = {Round::round(e2m1_to_f32(static_cast<uint8_t>(byte & 15)) * factor),
                                   Round::round(e2m1_to_f32(static_cast<uint8_t>(byte >> 4)) * factor)};
      }
    }
    return values;
  }();
  return *table;
}

// A row of halves of bytes, whose scales are E8M0 numbers.
template <typename Round>
void decode_halves(const RawMatrix& matrix, int64_t row, typename Round::Value* out) {  // [k]
  const BlockScales& scales = matrix.scales;
  const auto& table = scaled_halves<Round>().of;
  const auto* codes = static_cast<const uint8_t*>(matrix.data);
  const auto* scale = static_cast<const uint8_t*>(scales.data) +
                      (scales.first_row + row) / scales.block_rows * scales.row_stride;
  const int64_t begin = row * matrix.row_stride;
  int64_t block = scales.first_column / scales.block_columns,
          end = -scales.first_column % scales.block_columns;
  for (int64_t i = 0; i < matrix.k; ++block) {
    const auto& values = table[scale[block * scales.column_stride]];
    end = std::min(end + scales.block_columns, matrix.k);
    if (matrix.column_stride == 1 && (begin + i) % 2 == 0) {
      for (; i + 2 <= end; i += 2) std::memcpy(out + i, &values[codes[(begin + i) / 2]], sizeof values[0]);
    }
    for (; i < end; ++i) {
      const int64_t at = begin + i * matrix.column_stride;
      out[i] = values[codes[at / 2]][static_cast<size_t>(at % 2)];
    }
  }
}

// Columns that have one scale, in rows that have the same ones.
struct ColumnBlock {
  int64_t first, last;
  float scale;
};

// Elements `first` to `last` of a row, each by value_of.
template <typename ValueOf, typename Value>
void decode_run(const uint8_t* row, int64_t step, const ColumnBlock& block, const ValueOf& value_of,
                Value* out) {
  if (step == 1) {
    for (int64_t i = block.first; i < block.last; ++i) out[i] = value_of(row[i]);
  } else {
    for (int64_t i = block.first; i < block.last; ++i) out[i] = value_of(row[i * step]);
  }
}

// Rows [begin, end) of E4M3 numbers, from left to right: a row is written in one go.
template <typename Round>
void decode_block_rows(const RawMatrix& matrix, int64_t begin, int64_t end,
                       std::span<const ColumnBlock> blocks,
                       typename Round::Value* out) {  // [end - begin, k]
  using Value = typename Round::Value;
  const auto* codes = static_cast<const uint8_t*>(matrix.data);
  const int64_t step = matrix.column_stride;
  const auto row_of = [&](int64_t row) { return codes + row * matrix.row_stride; };
  if ((end - begin) * (blocks[0].last - blocks[0].first) < 1024) {  // where no table of a block's values pays
    for (int64_t row = begin; row < end; ++row, out += matrix.k) {
      for (const ColumnBlock& block : blocks) {
        const float scale = block.scale;
        decode_run(
            row_of(row), step, block, [scale](uint8_t code) { return Round::round(kE4M3[code] * scale); },
            out);
      }
    }
    return;
  }
  std::vector<std::array<Value, 256>> tables(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t code = 0; code < 256; ++code) tables[i][code] = Round::round(kE4M3[code] * blocks[i].scale);
  }
  for (int64_t row = begin; row < end; ++row, out += matrix.k) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      const std::array<Value, 256>& values = tables[i];
      decode_run(
          row_of(row), step, blocks[i], [&values](uint8_t code) { return values[code]; }, out);
    }
  }
}

template <typename Round>
void decode(const RawMatrix& matrix, int64_t begin, int64_t end, void* out) {
  const BlockScales& scales = matrix.scales;
  auto* const values = static_cast<typename Round::Value*>(out);
  if (scales.numbers == Code::kE2M1) {
    for (int64_t row = begin; row < end; ++row)
      decode_halves<Round>(matrix, row, values + (row - begin) * matrix.k);
    return;
  }
  const auto past = [](int64_t at, int64_t origin, int64_t block) {  // the end of its block
    return ((origin + at) / block + 1) * block - origin;
  };
  std::vector<ColumnBlock> blocks;
  for (int64_t row = begin; row < end;) {
    const int64_t next_row = std::min(end, past(row, scales.first_row, scales.block_rows));
    blocks.clear();
    for (int64_t column = 0; column < matrix.k; column = blocks.back().last) {
      const int64_t next = past(column, scales.first_column, scales.block_columns);
      blocks.push_back({column, std::min(matrix.k, next), scale_at(scales, row, column)});
    }
    decode_block_rows<Round>(matrix, row, next_row, blocks, values + (row - begin) * matrix.k);
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
  const auto* codes = static_cast<const uint8_t*>(matrix.data);
  const float code =
      matrix.scales.numbers == Code::kE2M1 ? e2m1_to_f32(half_byte(codes, at)) : e4m3_to_f32(codes[at]);
  return rounded(code * scale_at(matrix.scales, row, column), matrix.dtype);
}

bool may_overflow(const RawMatrix& matrix) {
  const StoredMatrix scales = stored_scales(matrix);
  const float largest = matrix.scales.numbers == Code::kE2M1 ? 6.0f : 448.0f;
  for (int64_t row = 0; row < scales.n; ++row) {
    for (int64_t column = 0; column < scales.k; ++column) {
      const auto at = static_cast<size_t>(row * scales.row_stride + column * scales.column_stride);
      const float scale = stored_scale(scales.data + at * scales.element, matrix.scales);
      if (!std::isfinite(rounded(largest * scale, matrix.dtype))) return true;
    }
  }
  return false;
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
  if (matrix.scales.numbers != Code::kE2M1) return codes;
  assert(matrix.column_stride == 1 && matrix.k % 2 == 0 && matrix.row_stride % 2 == 0);
  codes.k /= 2;
  codes.row_stride /= 2;
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
