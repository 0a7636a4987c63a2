// gpu_pack: weights for the GPU's matrix products, 16-bit, [n, k] by rows of row_stride_16bit(k) elements
// whose tail is zero. f32 weights are rounded to bf16.
#pragma once

#include "kernels/common/device.h"
#include "kernels/common/packed_matrix.h"

namespace eep {

// What a checkpoint's weights become on a GPU.
constexpr DType gpu_weight_dtype(DType dtype) { return dtype == DType::kF32 ? DType::kBF16 : dtype; }

size_t gpu_packed_bytes(int64_t n, int64_t k, DType dtype);

// As gemm_pack_cpu; source is host memory, destination device memory of gpu_packed_bytes(n, k, dtype),
// aligned to 16.
PackedMatrix pack_simt(const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                       DType dtype, void* destination, const Device& device);
PackedMatrix pack_cuda(const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                       DType dtype, void* destination, const Device& device);

// The same layout in the host's memory, for weights that are copied to the device later.
PackedMatrix gpu_pack_host(const void* source, int64_t n, int64_t k, int64_t row_stride,
                           int64_t column_stride, DType dtype, void* destination);

// The conversion of rows [begin, end) alone, into [end - begin, row_stride_16bit(k)].
void gpu_convert_rows(const void* source, int64_t begin, int64_t end, int64_t k, int64_t row_stride,
                      int64_t column_stride, DType dtype, uint16_t* out);

}  // namespace eep
