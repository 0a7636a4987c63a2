// Kernels that do nothing but keep one part of a GPU busy: ceilings that no op of ours can exceed. Each
// starts its work on the device's stream and says how much it is; `sink` takes 4 bytes of results.
#pragma once

#include <cstddef>

#include "kernels/common/device.h"

namespace eep::bench {

// Bytes that the multiprocessors read from the L2 cache: each reads all of `buffer`, which fits there.
double l2_read_cuda(const void* buffer, size_t bytes, void* sink, const Device& device);

// FLOPs of mma.sync m16n8k16 (bf16, f32 sums) on registers.
double mma_peak_cuda(void* sink, const Device& device);

// FLOPs of wgmma m64n256k16 (bf16, f32 sums) on shared memory that stays the same; 0, and no work, on a
// device other than of compute capability 9.0.
double wgmma_peak_cuda(void* sink, const Device& device);

}  // namespace eep::bench
