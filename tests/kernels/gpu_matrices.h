// Weights as the GPU's matrix products take them, and the bounds on those products.
#pragma once

#include "kernels/gpu/tile_schedule.h"
#include "tests/kernels/gpu_support.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

namespace eep::test {

// f32 checkpoints run as bf16 on a GPU.
inline DType dtype_on_gpu(DType dtype) { return dtype == DType::kF32 ? DType::kBF16 : dtype; }

// Half the distance between neighbours, relative, and absolute below the normal numbers.
inline double unit_16bit(DType dtype) { return dtype == DType::kBF16 ? 0x1p-8 : 0x1p-11; }
inline double tiny_16bit(DType dtype) { return dtype == DType::kBF16 ? 0x1p-134 : 0x1p-25; }

inline Floats rounded(const Floats& values, DType dtype) { return Typed(values, dtype).values; }

// A weight matrix [n, k] in device memory. The padding of its rows is NaN: no kernel may use it.
struct DeviceWeights {
  Floats values;  // [n, k], rounded
  OnDevice<uint16_t> memory;
  PackedMatrix packed;

  DeviceWeights(const Floats& source, int64_t n, int64_t k, DType dtype)
      : values(rounded(source, dtype)), memory(padded(source, n, k, dtype)) {
    packed = {memory.data(), dtype, n, k};
  }

 private:
  static std::vector<uint16_t> padded(const Floats& source, int64_t n, int64_t k, DType dtype) {
    const int64_t stride = row_stride_16bit(k);
    std::vector<uint16_t> bits(static_cast<size_t>(n * stride), 0x7fff);
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t i = 0; i < k; ++i) {
        bits[static_cast<size_t>(row * stride + i)] = narrow(source[static_cast<size_t>(row * k + i)], dtype);
      }
    }
    return bits;
  }
};

// Rows as round_rows makes them, [rows, row_stride_16bit(width)].
inline std::vector<uint16_t> rows_16bit(const Floats& x, int64_t rows, int64_t width, DType dtype) {
  const int64_t stride = row_stride_16bit(width);
  std::vector<uint16_t> bits(static_cast<size_t>(rows * stride));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; ++i) {
      bits[static_cast<size_t>(row * stride + i)] = narrow(x[static_cast<size_t>(row * width + i)], dtype);
    }
  }
  return bits;
}

// Whether the kernels by wgmma run here: on the host, or on a GPU of compute capability 9.0.
inline bool wgmma_here() {
#ifdef EEP_TEST_CUDA
  gpu_device();
  if (wgmma_supported_cuda()) return true;
  MESSAGE("skipped: wgmma needs compute capability 9.0");
  return false;
#else
  return true;
#endif
}

// A chain of tensor-core steps over n products. Products of 16-bit values are exact in f32. Each addition is
// off by at most 2 u of the sum of magnitudes: the host's twin rounds (u), tensor cores may cut off (2 u).
inline Bounded mma_dot(const float* a, const float* b, int64_t n) {
  Bounded value = dot(a, b, n);
  value.bound *= 2;
  return value;
}

}  // namespace eep::test
