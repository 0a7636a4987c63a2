// gemm_bf16, packing: weights [n, k] of any dtype, rounded to bf16, to tiles and back (gemm_bf16.h).
#include <cassert>
#include <cstring>

#include "kernels/common/float16.h"
#include "kernels/cpu/gemm_bf16_schedule.h"
#include "kernels/gemm_bf16.h"

namespace eep {
namespace {

constexpr int64_t steps_of(int64_t k) { return (k + kBf16Step - 1) / kBf16Step; }

// Element (row, column) of a matrix with `steps` tiles a panel.
constexpr int64_t place(int64_t row, int64_t column, int64_t steps) {
  const int64_t pair = row / kPanel * steps * (kBf16Step / 2) + column / 2;
  return (pair * kPanel + row % kPanel) * 2 + column % 2;
}

// Sources may be misaligned, hence memcpy of single elements.
template <DType kDType>
uint16_t element(const char* source) {
  if constexpr (kDType == DType::kF32) {
    float value;
    std::memcpy(&value, source, sizeof value);
    return f32_to_bf16(value);
  }
  uint16_t bits;
  std::memcpy(&bits, source, sizeof bits);
  return kDType == DType::kBF16 ? bits : f32_to_bf16(f16_to_f32(bits));
}

template <DType kDType>
void pack(const char* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
          uint16_t* out) {
  const auto bytes = static_cast<int64_t>(dtype_size(kDType));
  const int64_t steps = steps_of(k);
  for (int64_t row = 0; row < n; ++row) {
    uint16_t* const to = out + place(row, 0, steps);
    const char* const from = source + row * row_stride * bytes;
    for (int64_t column = 0; column < k; ++column) {
      to[column / 2 * 2 * kPanel + column % 2] = element<kDType>(from + column * column_stride * bytes);
    }
  }
}

}  // namespace

size_t gemm_bf16_packed_bytes(int64_t n, int64_t k, DType) {
  return static_cast<size_t>((n + kPanel - 1) / kPanel * kPanel * steps_of(k) * kBf16Step) * sizeof(uint16_t);
}

PackedMatrix gemm_bf16_pack_cpu(const void* source, int64_t n, int64_t k, int64_t row_stride,
                                int64_t column_stride, DType dtype, void* destination) {
  assert(reinterpret_cast<uintptr_t>(destination) % 64 == 0);
  std::memset(destination, 0, gemm_bf16_packed_bytes(n, k, dtype));
  const char* const from = static_cast<const char*>(source);
  auto* const out = static_cast<uint16_t*>(destination);
  switch (dtype) {
    case DType::kBF16:
      pack<DType::kBF16>(from, n, k, row_stride, column_stride, out);
      break;
    case DType::kF16:
      pack<DType::kF16>(from, n, k, row_stride, column_stride, out);
      break;
    default:
      pack<DType::kF32>(from, n, k, row_stride, column_stride, out);
  }
  return PackedMatrix{destination, DType::kBF16, n, k};
}

void gemm_bf16_unpack_cpu(const PackedMatrix& matrix, void* destination) {
  const auto* const packed = static_cast<const uint16_t*>(matrix.data);
  auto* const out = static_cast<uint16_t*>(destination);
  for (int64_t row = 0; row < matrix.n; ++row) {
    for (int64_t column = 0; column < matrix.k; ++column)
      out[row * matrix.k + column] = packed[place(row, column, steps_of(matrix.k))];
  }
}

}  // namespace eep
