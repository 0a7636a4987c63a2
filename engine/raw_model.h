// RawModel: views into the mapped files of a checkpoint, one entry per tensor of the architecture, whatever
// layout the files use. Made by loaders/checkpoint with every shape and dtype checked; read by
// engine/weights, which packs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/expert_plan.h"
#include "kernels/common/float8.h"
#include "kernels/common/mapped_file.h"
#include "kernels/common/tensor.h"

namespace eep {

// Scales of a matrix that is stored as E4M3 or E2M1 numbers, one a block. The grid of blocks begins first_row
// rows above and first_column columns before the matrix; scale (a, b) lies at a * row_stride + b *
// column_stride.
struct BlockScales {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // where they are not E8M0 numbers
  Code code = Code::kNone;    // or kE8M0
  int64_t block_rows = 1, block_columns = 1;
  int64_t row_stride = 0, column_stride = 1;
  int64_t first_row = 0, first_column = 0;
  int rank = 2;                // of the stored tensor of scales; below 2 it holds one
  Code numbers = Code::kE4M3;  // what is scaled; of kE2M1 two lie in a byte, the first in its low half
};

// Matrix [n, k]; element (i, j) lies at i * row_stride + j * column_stride. Fused and transposed layouts are
// views too.
struct RawMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // of the values; what is stored when it is not coded
  int64_t n = 0, k = 0;
  int64_t row_stride = 0, column_stride = 1;
  BlockScales scales = {};

  bool coded() const { return scales.data != nullptr; }  // read by coded_matrix.h
  explicit operator bool() const { return data != nullptr; }
};

struct RawFfn {
  RawMatrix gate;  // [intermediate, hidden]
  RawMatrix up;    // [intermediate, hidden]
  RawMatrix down;  // [hidden, intermediate]
  // With expert_bias; a column each.
  RawMatrix gate_bias = {}, up_bias = {};  // [intermediate, 1]
  RawMatrix down_bias = {};                // [hidden, 1]
};

struct RawLayer {
  Tensor input_norm;              // [hidden]
  RawMatrix q, k, v, o;           // [heads * head_dim, hidden], ..., [hidden, heads * head_dim]
  Tensor q_bias, k_bias, v_bias;  // [rows of the projection], when qkv_bias
  Tensor o_bias;                  // [hidden], when o_bias
  Tensor sinks;                   // [heads], when sinks
  Tensor q_norm, k_norm;          // [head_dim] or [rows of the projection], as qk_norm says
  Tensor post_norm;               // [hidden]
  RawMatrix router;               // [experts, hidden], sparse layers
  Tensor router_bias;             // [experts], with sigmoid scores of the choice, else of the logits
  std::vector<RawFfn> experts;    // [experts], sparse layers; fewer when a plan of its own says so
  RawFfn shared;                  // shared expert, when there is one
  RawMatrix shared_gate;          // [1, hidden], when shared_gated
  RawFfn dense;                   // dense layers
};

struct RawModel {
  ModelConfig config;
  Tensor embedding;  // [vocab, hidden]
  std::vector<RawLayer> layers;
  Tensor final_norm;  // [hidden]
  RawMatrix lm_head;  // [vocab, hidden], the embedding when tied
  std::vector<MappedFile> files;
  size_t bytes = 0;  // of all tensors
  // A native export's own, or that of layers with different counts: the only plan that the stored experts
  // allow.
  std::optional<ExpertPlan> plan;
  std::string note;  // what its reader should know of how it was read, or ""
  std::vector<std::shared_ptr<const std::vector<uint8_t>>> owned;  // what views show that lies in no file
};

}  // namespace eep
