// PackedMatrix: weights as a backend's matrix products read them, in their own dtype.
//
// On the CPU panels of kPanel output columns: [ceil(n/16)][k][16], the last panel padded with zeros. In bf16
// the 16 columns of a panel lie in the order 0, 8, 1, 9, ... 7, 15, so that a 32-bit word holds two columns
// half a panel apart and widens by a shift and a mask. Products of precision bf16 read tiles instead
// (gemm_bf16.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/tensor.h"

namespace eep {

inline constexpr int64_t kPanel = 16;

// A weight matrix [n, k] in the backend's own layout: panels on the CPU, gpu/gpu_pack.h on a GPU.
struct PackedMatrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t n = 0;  // output features
  int64_t k = 0;  // input features

  explicit operator bool() const { return data != nullptr; }
  // Elements including the zero padding of the last panel.
  int64_t padded_elements() const { return (n + kPanel - 1) / kPanel * kPanel * k; }
  size_t bytes() const { return static_cast<size_t>(padded_elements()) * dtype_size(dtype); }
};

}  // namespace eep
