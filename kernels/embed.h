// embed: out[row, :] = table[token[row], :], widened to f32.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct EmbedArgs {
  Tensor table;                    // [vocab, hidden], may be misaligned
  const int32_t* token = nullptr;  // [rows], each in [0, vocab)
  int64_t rows = 0;
  float* out = nullptr;  // [rows, hidden]
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const EmbedArgs& args) {
  assert(args.rows == 0 || (args.table.data != nullptr && args.token != nullptr && args.out != nullptr));
  assert(args.rows >= 0 && args.table.dim(1) > 0);
}

void embed_cpu(const EmbedArgs& args, const Device& device);

// On a GPU: the table, aligned to its element, and out are device memory, token is host memory.
void embed_simt(const EmbedArgs& args, const Device& device);
void embed_cuda(const EmbedArgs& args, const Device& device);

}  // namespace eep
