// attention_wide.h - the wide tile of attention.cu: 32 vectors for each warp, bound by the tensor cores.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention_tile.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/mma_tile.h"
#include "kernels/gpu/ptx.h"

namespace eep::EEP_GPU_NS {

inline constexpr int kWarpVectors = 32;  // of a warp

// Rows of kDim bf16, hi or lo, in shared memory; ldmatrix and the stores touch all banks.
template <int kDim>
__device__ int place(int row, int piece) {
  return row * kDim + 8 * (piece ^ row % 8);
}

template <int kWarps, int kDim>
struct WideShared {
  uint16_t q[2][kWarps * kWarpVectors * kDim];  // hi, lo
  uint16_t k[2][kKeys * kDim];
  uint16_t v[2][kKeys * kDim];
  float copied[kKeys * kDim];  // of k or of v: each thread reads what it has copied
  KeyRows rows[2];             // of two blocks
  unsigned bad[2][2];          // of two blocks: keys whose values are not all finite
  // Here, as registers are scarce:
  Tile tile;
  uint8_t row_of[kWarps * kWarpVectors];  // of the tile, of a vector; the last one's of those beyond
};

// Splits four values of a row, the `quarter`th four, to their place in hi and lo.
template <int kDim>
__device__ void store_split(uint16_t* hi, uint16_t* lo, int row, int quarter, const float4& values) {
  const Split a = split(values.x, values.y), b = split(values.z, values.w);
  const int at = place<kDim>(row, quarter / 2) + 4 * (quarter % 2);
  store_vector(hi + at, uint2{a.hi, b.hi});
  store_vector(lo + at, uint2{a.lo, b.lo});
}

template <int kWarps, int kDim>
struct WideBlock {
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kVectors = kWarps * kWarpVectors;
  static constexpr int kQuarters = kDim / 4;                   // pieces of four floats of a row
  static constexpr int kShare = kKeys * kQuarters / kThreads;  // of them, of a block's k or v, of a thread
  using Shared = WideShared<kWarps, kDim>;

  const Args& args;
  Shared& shared;

  // This thread's piece number i.
  static __device__ int row_of(int i) { return (threadIdx.x + i * kThreads) / kQuarters; }
  static __device__ int quarter_of(int i) { return (threadIdx.x + i * kThreads) % kQuarters; }
  __device__ float* copied(int i) const { return shared.copied + 4 * (threadIdx.x + i * kThreads); }

  __device__ void copy(const float* const* rows) const {
    copy_fours<kShare>(
        args, [rows](int i) { return rows[row_of(i)]; }, [](int i) { return 4 * quarter_of(i); },
        [this](int i) { return copied(i); });
  }
  __device__ void split_keys() const {
    cp_async_wait<0>();
#pragma unroll 4
    for (int i = 0; i < kShare; ++i) {
      store_split<kDim>(shared.k[0], shared.k[1], row_of(i), quarter_of(i), load_vector<float4>(copied(i)));
    }
  }
  __device__ void split_values(unsigned* bad) const {
    cp_async_wait<0>();
    float zero = 0.0f;  // or NaN, if a value is not finite
#pragma unroll 2
    for (int i = 0; i < kShare; ++i) {
      const float4 values = load_vector<float4>(copied(i));
      zero = fmaf(values.x, 0.0f, fmaf(values.y, 0.0f, fmaf(values.z, 0.0f, fmaf(values.w, 0.0f, zero))));
      store_split<kDim>(shared.v[0], shared.v[1], row_of(i), quarter_of(i), values);
    }
    if (zero != 0.0f) mark_bad(bad);
  }
  // Values that are not finite become 0, and their keys are marked.
  __device__ void mark_bad(unsigned* bad) const {
#pragma unroll 1
    for (int i = 0; i < kShare; ++i) {
      const float4 v = load_vector<float4>(copied(i));
      if (finite(v.x) && finite(v.y) && finite(v.z) && finite(v.w)) continue;
      atomicOr(&bad[row_of(i) / 32], 1u << row_of(i) % 32);
      const float4 clean{finite(v.x) ? v.x : 0.0f, finite(v.y) ? v.y : 0.0f, finite(v.z) ? v.z : 0.0f,
                         finite(v.w) ? v.w : 0.0f};
      store_split<kDim>(shared.v[0], shared.v[1], row_of(i), quarter_of(i), clean);
    }
  }

  // Vectors beyond the tile's are zeros.
  __device__ void split_queries() const {
    constexpr int kBatch = 8;  // loads under way
#pragma unroll 1
    for (int first = 0; first < kVectors * kQuarters / kThreads; first += kBatch) {
      float4 values[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int vector = row_of(first + i), at = 4 * quarter_of(first + i);
        values[i] = float4{};
        if (vector >= shared.tile.vectors) continue;
        const float* const row = args.q + shared.tile.offset_of(args, vector);
        if (args.vectors) {
          if (at < args.head_dim) values[i] = load_vector<float4>(row + at);
        } else {
          values[i].x = at < args.head_dim ? row[at] : 0.0f;
          values[i].y = at + 1 < args.head_dim ? row[at + 1] : 0.0f;
          values[i].z = at + 2 < args.head_dim ? row[at + 2] : 0.0f;
          values[i].w = at + 3 < args.head_dim ? row[at + 3] : 0.0f;
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        store_split<kDim>(shared.q[0], shared.q[1], row_of(first + i), quarter_of(first + i), values[i]);
      }
    }
  }
};

// What a warp has in registers: its 32 vectors in two halves of 16 rows.
template <int kDim>
struct WideWarp {
  float out[2][kDim / 8][4] = {};
  RowState state[2][2];
  uint32_t probability[2][4][2][4];  // of 16 keys each, as fragments A: hi, lo

  // Scores of a block. kAll: of all of its keys; else of those groups of 16 that are in `taken`.
  template <bool kAll, class Shared>
  static __device__ void multiply_keys(const Shared& shared, int taken, int warp_vector,
                                       float (&score)[2][kKeys / 8][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int d = 0; d < kDim; d += 16) {
      const int piece = d / 8;
      uint32_t q[2][2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int p = 0; p < 2; ++p) {
          ldmatrix_x4(q[m][p],
                      shared.q[p] + place<kDim>(warp_vector + 16 * m + lane % 16, piece + lane / 16));
        }
      }
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        if (!kAll && (taken >> n & 1) == 0) continue;
        const int at = place<kDim>(16 * n + lane % 8 + lane / 16 * 8, piece + lane / 8 % 2);
        uint32_t hi[4], lo[4];
        ldmatrix_x4(hi, shared.k[0] + at);
        ldmatrix_x4(lo, shared.k[1] + at);
#pragma unroll
        for (int part = 0; part < 3; ++part) {
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply_part(part, score[m][2 * n], q[m], {hi[0], hi[1]}, {lo[0], lo[1]});
            multiply_part(part, score[m][2 * n + 1], q[m], {hi[2], hi[3]}, {lo[2], lo[3]});
          }
        }
      }
    }
  }

  // Scores and probabilities of a block. all: all rows see all of its keys.
  template <class Shared>
  __device__ void weigh(const Shared& shared, const View& view, int taken, bool all, int warp_vector,
                        float scale) {
    float score[2][kKeys / 8][4] = {};
    if (all) {
      multiply_keys<true>(shared, taken, warp_vector, score);
    } else {
      multiply_keys<false>(shared, taken, warp_vector, score);
    }
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      scale_scores(score[m], scale);
      bool any[2] = {true, true};
      if (!all) {
        const Seen seen = seen_by(shared, view, warp_vector + 16 * m);
        hide_scores(score[m], 0, seen);
        for (int h = 0; h < 2; ++h) any[h] = seen.any(h);
      }
      float highest[2], sum[2][4], rescale[2];
      find_highest(score[m], highest);
      for (int h = 0; h < 2; ++h) highest[h] = any[h] ? fmaxf(highest[h], state[m][h].maximum) : 0.0f;
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        float part[2];
        exponentiate(score[m][2 * n], score[m][2 * n + 1], highest, probability[m][n], part);
        sum[0][n] = part[0], sum[1][n] = part[1];
      }
      for (int h = 0; h < 2; ++h) rescale[h] = update(state[m][h], any[h], highest[h], sum[h]);
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) out[m][n][e] *= rescale[e / 2];
      }
    }
  }

  template <class Shared>
  __device__ void add_values(const Shared& shared, int taken) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      if ((taken >> step & 1) == 0) continue;
#pragma unroll
      for (int n = 0; n < kDim / 8; n += 2) {
        const int at = place<kDim>(16 * step + lane % 16, n + lane / 16);
        uint32_t hi[4], lo[4];
        ldmatrix_x4_trans(hi, shared.v[0] + at);
        ldmatrix_x4_trans(lo, shared.v[1] + at);
#pragma unroll
        for (int part = 0; part < 3; ++part) {
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply_part(part, out[m][n], probability[m][step], {hi[0], hi[1]}, {lo[0], lo[1]});
            multiply_part(part, out[m][n + 1], probability[m][step], {hi[2], hi[3]}, {lo[2], lo[3]});
          }
        }
      }
    }
  }

  // first_vector: of 16
  template <class Shared>
  static __device__ Seen seen_by(const Shared& shared, const View& view, int first_vector) {
    const int lane = threadIdx.x % 32;
    const int upper = shared.row_of[first_vector + lane / 4];
    const int lower = shared.row_of[first_vector + lane / 4 + 8];
    return {{view.low(upper), view.low(lower)}, {view.high(upper), view.high(lower)}};
  }
};

// block: 32 kWarps threads; grid: (tiles of all runs, kv_heads).
template <int kWarps, int kDim>  // kDim: head_dim, up to 64 or 128
__global__ void __launch_bounds__(32 * kWarps, 1) attend_wide(const __grid_constant__ Args args) {
  WideShared<kWarps, kDim>& shared = *dynamic_shared<WideShared<kWarps, kDim>>();
  const WideBlock<kWarps, kDim> keys_and_values{args, shared};
  const int lane = threadIdx.x % 32, warp_vector = threadIdx.x / 32 * kWarpVectors;

  if (threadIdx.x == 0) shared.tile = find_tile(args);
  __syncthreads();
  const Tile& tile = shared.tile;
  // Vectors beyond the tile's do as its last one does, and are not stored.
  shared.row_of[threadIdx.x] =
      static_cast<uint8_t>(min(static_cast<int>(threadIdx.x), tile.vectors - 1) / tile.group);
  fill_rows(args, tile, tile.begin, shared.rows[0]);
  fill_rows(args, tile, tile.begin + kKeys, shared.rows[1]);
  if (threadIdx.x < 2) shared.bad[0][threadIdx.x] = 0;
  __syncthreads();
  keys_and_values.copy(shared.rows[0].k);
  keys_and_values.split_queries();
  keys_and_values.split_keys();
  keys_and_values.copy(shared.rows[0].v);

  WideWarp<kDim> warp;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
      warp.state[m][h] = start_of(args, tile, warp_vector + 16 * m + 8 * h + lane / 4);
  }

  const int blocks = static_cast<int>(ceil_div(tile.end - tile.begin, kKeys));
  for (int i = 0; i < blocks; ++i) {
    const int parity = i % 2;
    const int64_t block = tile.begin + static_cast<int64_t>(i) * kKeys;
    const bool more = i + 1 < blocks;
    __syncthreads();  // the keys are split, the previous block's values are done with
    fill_rows(args, tile, block + 2 * kKeys, shared.rows[parity]);
    if (threadIdx.x < 2) shared.bad[1 - parity][threadIdx.x] = 0;

    const View view = view_of(args, tile, block);
    // Of the groups of 16 keys the warp takes those that lie between the lowest and the highest key that a
    // row of it sees; the others would add zeros.
    int taken = 0;
    if (warp_vector < tile.vectors) {
      const int first = shared.row_of[warp_vector], last = shared.row_of[warp_vector + kWarpVectors - 1];
      for (int n = 0; n < kKeys / 16; ++n) {
        if (16 * n < view.high(last) && 16 * n + 16 > view.low(first)) taken |= 1 << n;
      }
      const bool all = view.low(last) == 0 && view.high(first) == kKeys;
      if (taken != 0) warp.weigh(shared, view, taken, all, warp_vector, args.scale);
    }
    keys_and_values.split_values(shared.bad[parity]);
    if (more) keys_and_values.copy(shared.rows[1 - parity].k);
    __syncthreads();  // the values are split, the keys are done with
    warp.add_values(shared, taken);
    const uint64_t bad = shared.bad[parity][0] | static_cast<uint64_t>(shared.bad[parity][1]) << 32;
    if (bad != 0) {
      for (int m = 0; m < 2; ++m) {
        const Seen seen = warp.seen_by(shared, view, warp_vector + 16 * m);
        for (int h = 0; h < 2; ++h) {
          if (sees_bad(bad, seen.low[h], seen.high[h])) warp.state[m][h].sum = NAN;
        }
      }
    }
    if (more) {
      keys_and_values.split_keys();
      keys_and_values.copy(shared.rows[1 - parity].v);
    }
  }

#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int vector = warp_vector + 16 * m + 8 * h + lane / 4;
      if (vector >= tile.vectors) continue;
      float* const to = args.out + tile.offset_of(args, vector);
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        // + 0 turns -0, which a zero that was added may or may not have turned already, into 0.
        store_pair(to, 8 * n + lane % 4 * 2, args.head_dim, args.out_pairs,
                   warp.out[m][n][2 * h] / warp.state[m][h].sum + 0.0f,
                   warp.out[m][n][2 * h + 1] / warp.state[m][h].sum + 0.0f);
      }
    }
  }
}

}  // namespace eep::EEP_GPU_NS
