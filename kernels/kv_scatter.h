// kv_scatter: keys and values of a block's rows to their places in the caches of their sequences,
//   to[row].k[:] = k[row, :], to[row].v[:] = v[row, :].
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct KvPlace {
  float* k = nullptr;  // [width]
  float* v = nullptr;  // [width]
};

struct KvScatterArgs {
  const float* k = nullptr;     // [rows, width]
  const float* v = nullptr;     // [rows, width]
  const KvPlace* to = nullptr;  // [rows], no two alike
  int64_t rows = 0;
  int64_t width = 0;  // kv_heads * head_dim
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const KvScatterArgs& args) {
  assert(args.rows == 0 || (args.k != nullptr && args.v != nullptr && args.to != nullptr));
  assert(args.rows >= 0 && args.width > 0);
}

void kv_scatter_cpu(const KvScatterArgs& args, const Device& device);

// On a GPU: k, v and the places are device memory, the list of places is host memory. Copies, so the CPU's
// bits.
void kv_scatter_simt(const KvScatterArgs& args, const Device& device);
void kv_scatter_cuda(const KvScatterArgs& args, const Device& device);

}  // namespace eep
