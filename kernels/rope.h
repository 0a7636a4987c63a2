// rope: rotary position embedding in the half-split pairing, in place:
//   (x[i], x[i + d/2]) -> (x[i] cos - x[i + d/2] sin, x[i + d/2] cos + x[i] sin)
//   angle = position * inv_freq[i]
// With rotary_dim only that many leading elements of a head turn (d above is then rotary_dim).
// With a norm every head is normalised first, as rmsnorm does it over rows of head_dim (Qwen3's q and k): the
// bits are those of rmsnorm in place and rope after it.
#pragma once

#include <cassert>
#include <vector>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

// cos and sin of every (position, pair) in f32, times attention_factor; from inv_freq in f32 and f32 angles,
// as Hugging Face computes them. The sine and cosine are our own polynomials over exactly rounded operations:
// same bits everywhere.
struct RopeTable {
  int64_t positions = 0;
  int64_t pairs = 0;          // head_dim / 2
  std::vector<float> cosine;  // [positions, pairs]
  std::vector<float> sine;    // [positions, pairs]
};

struct RopeScaling {  // yarn; factor 1 means none (formats: "RoPE scaling kinds")
  double factor = 1;
  double original_max_position = 0;
  double beta_fast = 32, beta_slow = 1;
  double attention_factor = 0;  // 0: 0.1 ln(factor) + 1
  bool truncate = true;
};

RopeTable rope_table(int64_t positions, int64_t head_dim, double theta, const RopeScaling& scaling = {});

struct RopeArgs {
  float* x = nullptr;  // [rows, heads, head_dim], in place
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  const int32_t* position = nullptr;  // [rows], each < positions
  const float* cosine = nullptr;      // [positions, rotary_dim / 2]
  const float* sine = nullptr;        // [positions, rotary_dim / 2]
  const float* norm = nullptr;        // [head_dim] weight of the heads' norm, or null: none
  float eps = 0;                      // of the norm
  int64_t rotary_dim = 0;             // 0: head_dim; the tables have half as many columns
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const RopeArgs& args) {
  assert(args.rows >= 0 && args.heads > 0 && args.head_dim > 0 && args.head_dim % 2 == 0);
  assert(args.rotary_dim >= 0 && args.rotary_dim <= args.head_dim && args.rotary_dim % 2 == 0);
  assert(args.rows == 0 ||
         (args.x != nullptr && args.position != nullptr && args.cosine != nullptr && args.sine != nullptr));
  assert(args.norm == nullptr || args.eps >= 0);
}

void rope_cpu(const RopeArgs& args, const Device& device);

// On a GPU: x, cosine, sine and norm are device memory, position is host memory; the bits are the CPU's.
void rope_simt(const RopeArgs& args, const Device& device);
void rope_cuda(const RopeArgs& args, const Device& device);

}  // namespace eep
