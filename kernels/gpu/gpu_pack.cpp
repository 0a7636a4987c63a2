#include "kernels/gpu/gpu_pack.h"

#include <algorithm>
#include <cstring>

#include "kernels/common/float16.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep {

size_t gpu_packed_bytes(int64_t n, int64_t k, DType) {
  return static_cast<size_t>(n * row_stride_16bit(k)) * 2;
}

void gpu_convert_rows(const void* source, int64_t begin, int64_t end, int64_t k, int64_t row_stride,
                      int64_t column_stride, DType dtype, uint16_t* out) {
  const auto* bytes = static_cast<const char*>(source);
  const int64_t size = static_cast<int64_t>(dtype_size(dtype)), stride = row_stride_16bit(k);
  for (int64_t row = begin; row < end; ++row, out += stride) {
    const char* from = bytes + row * row_stride * size;  // may be misaligned, in a mapped file
    if (dtype != DType::kF32 && column_stride == 1) {
      std::memcpy(out, from, static_cast<size_t>(2 * k));
    } else if (dtype != DType::kF32) {
      for (int64_t i = 0; i < k; ++i) std::memcpy(out + i, from + i * column_stride * 2, 2);
    } else {
      for (int64_t i = 0; i < k; ++i) {
        float value;
        std::memcpy(&value, from + i * column_stride * 4, 4);
        out[i] = f32_to_bf16(value);
      }
    }
    std::fill(out + k, out + stride, uint16_t{0});
  }
}

PackedMatrix gpu_pack_host(const void* source, int64_t n, int64_t k, int64_t row_stride,
                           int64_t column_stride, DType dtype, void* destination) {
  gpu_convert_rows(source, 0, n, k, row_stride, column_stride, dtype, static_cast<uint16_t*>(destination));
  return {destination, gpu_weight_dtype(dtype), n, k};
}

}  // namespace eep
