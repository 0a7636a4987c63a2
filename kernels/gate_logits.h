// gate_logits.h - the router's product z = x W_gate^T on CUDA cores, in f32:
//   logits[row, expert] = sum_k x[row, k] gate[expert, k] (+ bias[expert]),   x f32, not rounded; gate 16-bit,
//   widened.
//
// Every logit is one chain of fused multiply-adds in ascending k from 0, whatever the tile: a tensor core
// would round x, and near-ties decide which experts run. So all tiles give the same bits, the CPU's, and the
// launcher is free to look at the number of rows and experts (router.cu).
//
// Both operands lie in shared memory as in device memory, k along a row, and come by cp.async; a thread reads
// two or four k of its rows and columns at once. FLOPs: 2 rows experts hidden. Bytes: x once for each
// kColumns experts, the gate once for each kRows rows (from L2).
#pragma once

#include "kernels/common/tensor.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/ptx.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep::EEP_GPU_NS {

struct LogitArgs {
  const float* x;        // [rows, hidden]
  const uint16_t* gate;  // [experts, row_stride_16bit(hidden)]
  const float* bias;     // [experts] or null
  float* logits;         // [rows, experts]
  int64_t rows;
  int32_t hidden, experts;
  bool vectors;      // rows of x start at 16 bytes and are multiples of it
  bool hf_rounding;  // logits are rounded to the gate's dtype
};

// A thread has kRowShare x kColumnShare logits. kCycles: a block's for four k, about, for the choice.
// kAnyAlignment: else rows of x start at 16 bytes and hidden is a multiple of 4.
struct WideGate {  // many rows, many experts: bound by arithmetic
  static constexpr int kRows = 128, kColumns = 128, kRowShare = 8, kColumnShare = 8;
  static constexpr int kDepth = 32, kStages = 2, kBlocks = 2, kCycles = 670;
  static constexpr bool kAnyAlignment = false;
};
struct SquareGate {
  static constexpr int kRows = 64, kColumns = 64, kRowShare = 4, kColumnShare = 4;
  static constexpr int kDepth = 32, kStages = 3, kBlocks = 3, kCycles = 180;
  static constexpr bool kAnyAlignment = false;
};
struct FewGate {  // few rows or experts: blocks enough for all multiprocessors
  static constexpr int kRows = 32, kColumns = 32, kRowShare = 2, kColumnShare = 2;
  static constexpr int kDepth = 64, kStages = 3, kBlocks = 3, kCycles = 60;
  static constexpr bool kAnyAlignment = true;
};
struct NarrowGate {  // up to 8 experts: bound by reading x, long pieces of each row
  static constexpr int kRows = 64, kColumns = 8, kRowShare = 1, kColumnShare = 4;
  static constexpr int kDepth = 128, kStages = 3, kBlocks = 2, kCycles = 85;
  static constexpr bool kAnyAlignment = false;
};

template <class Tile>
struct GateTileSize {
  static constexpr int kAcross = Tile::kColumns / Tile::kColumnShare, kDown = Tile::kRows / Tile::kRowShare;
  static constexpr int kThreads = kAcross * kDown;
  static constexpr int kLanesAcross = kAcross < 8 ? kAcross : 8, kLanesDown = 32 / kLanesAcross;
  // Neighbouring rows lie 4 (gate, depth 32: 20) banks apart, so that eight of them touch all banks.
  static constexpr int kXPitch = Tile::kDepth + 4;     // floats
  static constexpr int kGatePitch = Tile::kDepth + 8;  // 16-bit elements
  static constexpr int kXBytes = Tile::kRows * kXPitch * 4;
  static constexpr int kStageBytes = kXBytes + Tile::kColumns * kGatePitch * 2;
  static constexpr size_t kSharedBytes = size_t{Tile::kStages} * kStageBytes;
  static_assert(kThreads % 32 == 0 && kDown % kLanesDown == 0 && kStageBytes % 16 == 0);
};

template <DType kDType>
__device__ inline float2 widen_pair(uint32_t pair) {
  if (kDType == DType::kBF16) return {Bf16::low(pair), Bf16::high(pair)};
  return {F16::low(pair), F16::high(pair)};
}

// To the gate's dtype and back.
template <DType kDType>
__device__ inline float rounded_to(float value) {
  if (kDType == DType::kBF16) return Bf16::low(Bf16::pack(value, 0.0f));
  return F16::low(F16::pack(value, 0.0f));
}

// One block's tile. Thread (across, down) has rows down + kDown i and columns across + kAcross j.
template <class Tile, DType kDType>
struct GateTile {
  using Size = GateTileSize<Tile>;

  const LogitArgs& args;
  int64_t first_row;
  int rows, first_expert, across, down;  // rows: of the tile
  char* stages;
  float sum[Tile::kRowShare][Tile::kColumnShare] = {};

  __device__ explicit GateTile(const LogitArgs& args_)
      : args(args_),
        first_row(int64_t{blockIdx.x} * Tile::kRows),
        rows(static_cast<int>(min(int64_t{Tile::kRows}, args_.rows - first_row))),
        first_expert(static_cast<int>(blockIdx.y) * Tile::kColumns),
        stages(gpu::dynamic_shared<char>()) {
    constexpr int kWarpsAcross = Size::kAcross / Size::kLanesAcross;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    across = warp % kWarpsAcross * Size::kLanesAcross + lane % Size::kLanesAcross;
    down = warp / kWarpsAcross * Size::kLanesDown + lane / Size::kLanesAcross;
  }

  __device__ void run() {
    const int steps = static_cast<int>(ceil_div(args.hidden, Tile::kDepth));
    for (int step = 0; step < Tile::kStages - 1; ++step) copy_stage(step);
    for (int step = 0; step < steps; ++step) {
      cp_async_wait<Tile::kStages - 2>();
      __syncthreads();  // the stage is complete, and nobody reads the one to be refilled
      copy_stage(step + Tile::kStages - 1);
      multiply_stage(stages + step % Tile::kStages * Size::kStageBytes,
                     min(Tile::kDepth, args.hidden - step * Tile::kDepth));
    }
    cp_async_wait<0>();
    store();
  }

 private:
  // Columns [step kDepth, + kDepth) of x and gate, zeros beyond rows and experts; an empty group beyond k.
  __device__ void copy_stage(int step) {
    char* const stage = stages + step % Tile::kStages * Size::kStageBytes;
    const int k0 = step * Tile::kDepth;
    if (k0 < args.hidden) {
      if (Tile::kAnyAlignment && !args.vectors) {
        copy_x_singly(reinterpret_cast<float*>(stage), k0);
      } else {
        copy_x(reinterpret_cast<float*>(stage), k0);
      }
      copy_gate(reinterpret_cast<uint16_t*>(stage + Size::kXBytes), k0);
    }
    cp_async_commit();
  }
  __device__ void copy_x(float* tile, int k0) {
    constexpr int kPieces = Tile::kDepth / 4, kRowStep = Size::kThreads / kPieces;
    static_assert(Size::kThreads % kPieces == 0 && Tile::kRows % kRowStep == 0);
    const int k = threadIdx.x % kPieces * 4, row = threadIdx.x / kPieces;
    const bool inside = k0 + k < args.hidden;  // which is a multiple of 4
    const float* from = args.x + (first_row + row) * args.hidden + k0 + k;
    float* const to = tile + row * Size::kXPitch + k;
#pragma unroll 1
    for (int r = 0; r < Tile::kRows; r += kRowStep, from += kRowStep * args.hidden) {
      const bool there = inside && row + r < rows;
      cp_async_16(to + r * Size::kXPitch, there ? from : args.x, there ? 16 : 0);
    }
  }
  __device__ void copy_x_singly(float* tile, int k0) {
#pragma unroll 1
    for (int i = threadIdx.x; i < Tile::kRows * Tile::kDepth; i += Size::kThreads) {
      const int row = i / Tile::kDepth, k = i % Tile::kDepth;
      const bool there = row < rows && k0 + k < args.hidden;
      cp_async_4(tile + row * Size::kXPitch + k,
                 args.x + (there ? (first_row + row) * args.hidden + k0 + k : 0), there ? 4 : 0);
    }
  }
  __device__ void copy_gate(uint16_t* tile, int k0) {
    constexpr int kPieces = Tile::kDepth / 8;
    const int64_t stride = row_stride_16bit(args.hidden);
#pragma unroll 1  // unrolled, its addresses would take the sums' registers
    for (int i = threadIdx.x; i < Tile::kColumns * kPieces; i += Size::kThreads) {
      const int column = i / kPieces, k = i % kPieces * 8, expert = first_expert + column;
      const int inside = expert < args.experts ? min(8, max(0, args.hidden - k0 - k)) : 0;
      cp_async_16(tile + column * Size::kGatePitch + k,
                  args.gate + (inside > 0 ? expert * stride + k0 + k : 0), 2 * inside);
    }
  }

  // depth: what the stage holds of k; further steps of the chain could change the sign of a zero.
  __device__ void multiply_stage(const char* stage, int depth) {
    const float* const x = reinterpret_cast<const float*>(stage) + down * Size::kXPitch;
    const uint16_t* const gate =
        reinterpret_cast<const uint16_t*>(stage + Size::kXBytes) + across * Size::kGatePitch;
    if (Tile::kRowShare == 8) {  // four k at once of eight rows do not fit beside the sums
#pragma unroll 1
      for (int k = 0; k < depth; k += 2) multiply_two(x + k, gate + k);
      return;
    }
    const int fours = Tile::kAnyAlignment ? depth / 4 * 4 : depth;
#pragma unroll 4
    for (int k = 0; k < fours; k += 4) multiply_four(x + k, gate + k);
    if (Tile::kAnyAlignment) {
#pragma unroll 1
      for (int k = fours; k < depth; ++k) multiply_one(x + k, gate + k);
    }
  }
  __device__ void multiply_two(const float* x, const uint16_t* gate) {
    float2 a[Tile::kRowShare];
#pragma unroll
    for (int i = 0; i < Tile::kRowShare; ++i) a[i] = load_vector<float2>(x + i * Size::kDown * Size::kXPitch);
#pragma unroll
    for (int j = 0; j < Tile::kColumnShare; ++j) {
      const float2 w = widen_pair<kDType>(load_vector<uint32_t>(gate + j * Size::kAcross * Size::kGatePitch));
#pragma unroll
      for (int i = 0; i < Tile::kRowShare; ++i) sum[i][j] = fmaf(a[i].x, w.x, sum[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kRowShare; ++i) sum[i][j] = fmaf(a[i].y, w.y, sum[i][j]);
    }
  }
  __device__ void multiply_four(const float* x, const uint16_t* gate) {
    float4 a[Tile::kRowShare];
#pragma unroll
    for (int i = 0; i < Tile::kRowShare; ++i) a[i] = load_vector<float4>(x + i * Size::kDown * Size::kXPitch);
#pragma unroll
    for (int j = 0; j < Tile::kColumnShare; ++j) {
      const uint2 four = load_vector<uint2>(gate + j * Size::kAcross * Size::kGatePitch);
      const float2 low = widen_pair<kDType>(four.x), high = widen_pair<kDType>(four.y);
#pragma unroll
      for (int i = 0; i < Tile::kRowShare; ++i) sum[i][j] = fmaf(a[i].x, low.x, sum[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kRowShare; ++i) sum[i][j] = fmaf(a[i].y, low.y, sum[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kRowShare; ++i) sum[i][j] = fmaf(a[i].z, high.x, sum[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kRowShare; ++i) sum[i][j] = fmaf(a[i].w, high.y, sum[i][j]);
    }
  }
  __device__ void multiply_one(const float* x, const uint16_t* gate) {
#pragma unroll
    for (int j = 0; j < Tile::kColumnShare; ++j) {
      const float w = widen_pair<kDType>(gate[j * Size::kAcross * Size::kGatePitch]).x;
#pragma unroll
      for (int i = 0; i < Tile::kRowShare; ++i)
        sum[i][j] = fmaf(x[i * Size::kDown * Size::kXPitch], w, sum[i][j]);
    }
  }

  __device__ void store() {
#pragma unroll
    for (int i = 0; i < Tile::kRowShare; ++i) {
      const int row = down + Size::kDown * i;
      if (row >= rows) continue;
      float* const to = args.logits + (first_row + row) * args.experts + first_expert;
#pragma unroll
      for (int j = 0; j < Tile::kColumnShare; ++j) {
        const int column = across + Size::kAcross * j;
        if (first_expert + column < args.experts) {
          const float z = args.bias != nullptr ? sum[i][j] + args.bias[first_expert + column] : sum[i][j];
          to[column] = args.hf_rounding ? rounded_to<kDType>(z) : z;
        }
      }
    }
  }
};

}  // namespace eep::EEP_GPU_NS
