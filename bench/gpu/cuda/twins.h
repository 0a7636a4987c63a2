// What the CUDA toolkit's own libraries make of two ops of ours, for tests_cuda (same results) and for the
// benchmark (which is quicker). All pointers are device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/device.h"

namespace eep::bench {

// words[4 i + j], i < blocks: word j of cuRAND's Philox4x32-10 at offset 4 i, i.e. of the counter {i, 0,
// stream, 0}.
void curand_words_cuda(uint32_t* words, int64_t blocks, uint64_t seed, uint32_t stream, const Device& device);

// CUB's stable radix sort of slots by group: order[i] = the i-th slot, slots ascending within a group. group:
// [count], in [0, groups). scratch: of cub_order_bytes.
size_t cub_order_bytes(int64_t count);
void cub_order_cuda(const int32_t* group, int64_t count, int32_t groups, int32_t* order, void* scratch,
                    const Device& device);

}  // namespace eep::bench
