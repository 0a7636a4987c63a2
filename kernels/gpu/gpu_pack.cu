// gpu_pack.cu - no kernel: rows are converted on the host and uploaded, a few megabytes at a time.
#include <algorithm>
#include <vector>

#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_memory.h"
#include "kernels/gpu/gpu_pack.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep {

PackedMatrix GPU_OP(pack)(const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                          DType dtype, void* destination, const Device& device) {
  constexpr int64_t kElements = 4 << 20;  // converted at once
  const int64_t stride = row_stride_16bit(k),
                step = std::max<int64_t>(1, kElements / std::max<int64_t>(stride, 1));
  std::vector<uint16_t> rows(static_cast<size_t>(std::min(step, n) * stride));
  for (int64_t row = 0; row < n; row += step) {
    const int64_t count = std::min(step, n - row);
    gpu_convert_rows(source, row, row + count, k, row_stride, column_stride, dtype, rows.data());
    GPU_OP(upload)
    (static_cast<uint16_t*>(destination) + row * stride, rows.data(), static_cast<size_t>(2 * count * stride),
     device);
  }
  return {destination, gpu_weight_dtype(dtype), n, k};
}

}  // namespace eep
