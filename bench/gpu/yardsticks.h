// Yardsticks of a GPU that are no part of the program: cuBLAS, and copies from pinned memory. Where cuBLAS is
// not found (cublas_library.h), or the backend is not CUDA, they say that they cannot be used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/common/device.h"

namespace eep::bench {

bool cublas_here(const Device& device);

// out[rows, n] f32 = x[rows, k] w[n, k]^T, x and w bf16, f32 accumulation. All in device memory.
void cublas_product(const void* x, const void* w, void* out, int64_t rows, int64_t n, int64_t k,
                    const Device& device);

// Whether a row of x w^T has the same bits in batches of 1, 64 and 4096 rows when cuBLASLt is held to the one
// algorithm that its heuristic names for 4096 rows without split-k and reductions. "same bits", "other bits"
// or "refused" by the algorithm, and in brackets its configuration, read back, in cuBLASLt's numbers; "-"
// without it. x: [4096, k], w: [n, k] bf16, out: [2, 4096, n] f32, all in device memory.
std::string cublas_batches(const void* x, const void* w, void* out, int64_t n, int64_t k,
                           const Device& device);

// Bytes a second from pinned host memory, 0 where it cannot be measured.
double pinned_upload_rate(void* to, size_t bytes, const Device& device);

}  // namespace eep::bench
