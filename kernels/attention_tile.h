// attention_tile.h - what the two kernels of attention.cu share: which rows and keys a block of threads has,
// which of them see which, and the online softmax in registers. Operation for operation the same in both, so
// that a row has the same bits in either.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/ptx.h"

namespace eep::EEP_GPU_NS {

inline constexpr int kKeys = 64;  // of a block of keys

struct Run {
  int64_t query_begin, query_rows, first_position, span_begin;
  int32_t tile_begin;  // tiles of earlier runs
};

struct Args {
  const float* q;       // [rows, heads, head_dim]
  const Run* runs;      // [run_count]
  const KvSpan* spans;  // [...]
  const float* sinks;   // [heads] or null
  float* out;           // [rows, heads, head_dim]
  int32_t run_count, heads, kv_heads, head_dim;
  int32_t tile_rows;  // query rows of a tile
  int64_t window;
  float scale;
  bool vectors;    // rows of q, k and v start at 16 bytes
  bool out_pairs;  // rows of out start at 8 bytes and have an even number of columns
};

// A block's tile: query rows of a run for one kv head. Its vectors are the rows times the heads of the group.
struct Tile {
  const KvSpan* spans;     // of the run
  int64_t first_query;     // row in q and out
  int64_t first_position;  // of that row
  int64_t begin, end;      // positions of the keys that its rows see; begin down to a multiple of kKeys
  int rows, group, vectors, kv_head;

  __device__ int64_t offset_of(const Args& args, int vector) const {  // in q and out
    return ((first_query + vector / group) * args.heads + kv_head * group + vector % group) * args.head_dim;
  }
};

// Grid: (tiles of all runs, kv_heads). The last tiles of a run come first, as they see the most keys.
__device__ inline Tile find_tile(const Args& args) {
  const int index = static_cast<int>(blockIdx.x);
  int run_index = 0;
  if (index < args.run_count && args.runs[index].tile_begin == index) {
    run_index = index;  // decoding: every run has one tile
  } else {
    for (int step = 1 << 30; step > 0; step /= 2) {
      const int next = run_index + step;
      if (next < args.run_count && args.runs[next].tile_begin <= index) run_index = next;
    }
  }
  const Run run = args.runs[run_index];
  const int64_t last = (run.query_rows - 1) / args.tile_rows;
  const int64_t first_row = (last - (index - run.tile_begin)) * args.tile_rows;
  Tile tile;
  tile.spans = args.spans + run.span_begin;
  tile.first_query = run.query_begin + first_row;
  tile.first_position = run.first_position + first_row;
  tile.rows = static_cast<int>(min(run.query_rows - first_row, static_cast<int64_t>(args.tile_rows)));
  tile.group = args.heads / args.kv_heads;
  tile.vectors = tile.rows * tile.group;
  tile.kv_head = static_cast<int>(blockIdx.y);
  tile.begin = args.window > 0 ? max(static_cast<int64_t>(0), tile.first_position - args.window + 1) : 0;
  tile.begin = tile.begin / kKeys * kKeys;
  tile.end = tile.first_position + tile.rows;
  return tile;
}

// The rows of k and v of a block's keys. Keys beyond the tile's last one, which no row sees, are that one
// again.
struct KeyRows {
  const float* k[kKeys];
  const float* v[kKeys];
};
__device__ inline void fill_rows(const Args& args, const Tile& tile, int64_t block, KeyRows& rows) {
  if (threadIdx.x >= kKeys || block >= tile.end) return;
  int64_t position = min(block + threadIdx.x, tile.end - 1);
  const KvSpan* span = tile.spans;
  while (position >= span->rows) position -= (span++)->rows;
  const int64_t at = (position * args.kv_heads + tile.kv_head) * args.head_dim;
  rows.k[threadIdx.x] = span->k + at;
  rows.v[threadIdx.x] = span->v + at;
}

// Copies four floats, from column(i) of row(i) to place(i) in shared memory, for i < kCount, as one group;
// zeros beyond head_dim.
template <int kCount, class Row, class Column, class Place>
__device__ void copy_fours(const Args& args, const Row& row, const Column& column, const Place& place) {
  if (args.vectors) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const bool there = column(i) < args.head_dim;
      cp_async_16(place(i), row(i) + (there ? column(i) : 0), there ? 16 : 0);
    }
  } else {
#pragma unroll 1
    for (int i = 0; i < kCount; ++i) {
      for (int c = 0; c < 4; ++c) {
        const bool there = column(i) + c < args.head_dim;
        cp_async_4(place(i) + c, row(i) + (there ? column(i) + c : 0), there ? 4 : 0);
      }
    }
  }
  cp_async_commit();
}

__device__ inline bool finite(float v) { return (__float_as_uint(v) & 0x7f800000u) != 0x7f800000u; }

// hi + lo = the values, but for 2^-16 of them; words of two columns.
struct Split {
  uint32_t hi, lo;
};
__device__ inline Split split(float a, float b) {
  const uint32_t hi = Bf16::pack(a, b);
  return {hi, Bf16::pack(a - Bf16::low(hi), b - Bf16::high(hi))};
}

// Of a block of keys, row r of the tile sees [low(r), high(r)), which ascend with r.
struct View {
  int behind, ahead;
  __device__ int low(int row) const { return min(max(row + behind, 0), kKeys); }
  __device__ int high(int row) const { return min(max(row + ahead, 0), kKeys); }
};
__device__ inline View view_of(const Args& args, const Tile& tile, int64_t block) {
  constexpr int64_t kFar = 1 << 30;
  const int64_t ahead = tile.first_position + 1 - block;
  const int64_t behind = args.window > 0 ? ahead - args.window : -kFar;
  return {static_cast<int>(max(behind, -kFar)), static_cast<int>(min(ahead, kFar))};
}

// Whether a row that sees keys [low, high) of a block sees one of those in `bad`.
__device__ inline bool sees_bad(uint64_t bad, int low, int high) {
  return low < high && (bad >> low) << (kKeys - (high - low)) != 0;
}

// ---- online softmax of a warp's 16 rows, of which a lane has parts of g and g + 8
// --------------------------

struct RowState {
  float maximum, sum;
};
// Before the first key: a sink is a key of no value that every vector has seen.
__device__ inline RowState start_of(const Args& args, const Tile& tile, int vector) {
  if (args.sinks == nullptr) return {-INFINITY, 0.0f};
  return {args.sinks[tile.kv_head * tile.group + vector % tile.group], 1.0f};
}
struct Seen {  // of a lane's two rows
  int low[2], high[2];
  __device__ bool any(int h) const { return low[h] < high[h]; }
  __device__ bool key(int h, int key) const { return key >= low[h] && key < high[h]; }
};

__device__ inline float max_over_quad(float v) {  // of 4 lanes, in each of them
  v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
  return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}
__device__ inline float sum_over_quad(float v) {  // of 4 lanes, in each of them the same bits
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}

template <int kBlocks>
__device__ void scale_scores(float (&score)[kBlocks][4], float scale) {
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) score[n][e] *= scale;
  }
}
// What a row does not see becomes -infinity. The first of the keys is number first_key of the block.
template <int kBlocks>
__device__ void hide_scores(float (&score)[kBlocks][4], int first_key, const Seen& seen) {
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = first_key + 8 * n + threadIdx.x % 4 * 2 + e % 2;
      if (!seen.key(e / 2, key)) score[n][e] = -INFINITY;
    }
  }
}
template <int kBlocks>
__device__ void find_highest(const float (&score)[kBlocks][4], float (&highest)[2]) {
  highest[0] = highest[1] = -INFINITY;
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) highest[e / 2] = fmaxf(highest[e / 2], score[n][e]);
  }
  for (int h = 0; h < 2; ++h) highest[h] = max_over_quad(highest[h]);
}

// Probabilities of 16 keys, exp(score - highest), as fragments A (hi, lo), and the sums of this lane's four.
// Of a row that sees no key of the block `highest` is 0.
__device__ inline void exponentiate(const float (&left)[4], const float (&right)[4],
                                    const float (&highest)[2], uint32_t (&probability)[2][4],
                                    float (&sum)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float p[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      p[i] = expf((i < 2 ? left[2 * h + i % 2] : right[2 * h + i % 2]) - highest[h]);
    }
    sum[h] = (p[0] + p[1]) + (p[2] + p[3]);
    const Split a = split(p[0], p[1]), b = split(p[2], p[3]);
    probability[0][h] = a.hi, probability[1][h] = a.lo;
    probability[0][h + 2] = b.hi, probability[1][h + 2] = b.lo;
  }
}

// Takes the block's highest score and the sums of its four groups of keys into a row's state; what was summed
// before is to be multiplied by the result.
__device__ inline float update(RowState& state, bool any, float highest, const float (&sum)[4]) {
  const float total = sum_over_quad((sum[0] + sum[1]) + (sum[2] + sum[3]));
  const float rescale = any ? expf(state.maximum - highest) : 1.0f;
  if (any) state = {highest, fmaf(state.sum, rescale, total)};
  return rescale;
}

// One of the three products of d += a b with split operands, the small ones first. A product waits for the
// one before it, so products of other d belong between them.
__device__ inline void multiply_part(int part, float (&d)[4], const uint32_t (&a)[2][4],
                                     const uint32_t (&b_hi)[2], const uint32_t (&b_lo)[2]) {
  if (part == 0) mma_bf16(d, a[1], b_hi);
  if (part == 1) mma_bf16(d, a[0], b_lo);
  if (part == 2) mma_bf16(d, a[0], b_hi);
}

}  // namespace eep::EEP_GPU_NS
