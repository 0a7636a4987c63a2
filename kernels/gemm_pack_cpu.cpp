// gemm, packing on the CPU: weights [n, k] to panels [ceil(n/16)][k][16] and back (gemm.h). Moves bytes only.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/gemm.h"

namespace eep {
namespace {

// Where column `lane` of a panel lies among its 16.
constexpr int64_t place(int64_t lane, DType dtype) {
  if (dtype != DType::kBF16) return lane;
  return lane < kPanel / 2 ? 2 * lane : 2 * lane - (kPanel - 1);
}

// kBytes per element. Sources may be misaligned, hence memcpy of single elements.
template <int kBytes>
void pack(const char* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride, DType dtype,
          char* out) {
  for (int64_t first = 0; first < n; first += kPanel) {
    const int64_t lanes = std::min(kPanel, n - first);
    for (int64_t column = 0; column < k; ++column) {
      std::memset(out, 0, kPanel * kBytes);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        std::memcpy(out + place(lane, dtype) * kBytes,
                    source + ((first + lane) * row_stride + column * column_stride) * kBytes, kBytes);
      }
      out += kPanel * kBytes;
    }
  }
}

template <int kBytes>
void unpack(const char* packed, int64_t n, int64_t k, DType dtype, char* out) {
  for (int64_t row = 0; row < n; ++row) {
    const char* lane = packed + (row / kPanel * kPanel * k + place(row % kPanel, dtype)) * kBytes;
    for (int64_t column = 0; column < k; ++column) {
      std::memcpy(out, lane + column * kPanel * kBytes, kBytes);
      out += kBytes;
    }
  }
}

}  // namespace

size_t gemm_packed_bytes(int64_t n, int64_t k, DType dtype) {
  return PackedMatrix{nullptr, dtype, n, k}.bytes();
}

PackedMatrix gemm_pack_cpu(const void* source, int64_t n, int64_t k, int64_t row_stride,
                           int64_t column_stride, DType dtype, void* destination) {
  assert(reinterpret_cast<uintptr_t>(destination) % 64 == 0);
  if (dtype_size(dtype) == 4) {
    pack<4>(static_cast<const char*>(source), n, k, row_stride, column_stride, dtype,
            static_cast<char*>(destination));
  } else {
    pack<2>(static_cast<const char*>(source), n, k, row_stride, column_stride, dtype,
            static_cast<char*>(destination));
  }
  return PackedMatrix{destination, dtype, n, k};
}

void gemm_unpack_cpu(const PackedMatrix& matrix, void* destination) {
  if (dtype_size(matrix.dtype) == 4) {
    unpack<4>(static_cast<const char*>(matrix.data), matrix.n, matrix.k, matrix.dtype,
              static_cast<char*>(destination));
  } else {
    unpack<2>(static_cast<const char*>(matrix.data), matrix.n, matrix.k, matrix.dtype,
              static_cast<char*>(destination));
  }
}

}  // namespace eep
