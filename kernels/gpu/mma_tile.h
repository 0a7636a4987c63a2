// mma_tile.h - one tile of a matrix product on tensor cores, shared by gemm.cu and expert_ffn.cu:
//   d[row, column] = sum_k round16(a[row, k]) b[column, k],   a f32, b 16-bit, d f32.
//
// a is gathered row by row, read as f32 one step ahead into registers and rounded on the way into shared
// memory; b comes by cp.async, kStages deep. Both lie swizzled, ldmatrix and mma.m16n8k16 do the rest.
//
// Every element of d is one chain of mma.m16n8k16 over ascending k from 0, whatever the tile's shape, its
// place in the tile and the other rows: zeros beyond k are added exactly. So all shapes give the same bits.
#pragma once

#include <cstdint>

#include "kernels/gpu/gpu.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/ptx.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep::EEP_GPU_NS {

// Columns [column, column + 2) of a row of `columns`, as far as they exist. pairs: every row starts at 8
// bytes and has an even number of columns.
__device__ inline void store_pair(float* row, int column, int columns, bool pairs, float first,
                                  float second) {
  if (pairs && column < columns) {
    store_vector(row + column, float2{first, second});
  } else {
    if (column < columns) row[column] = first;
    if (column + 1 < columns) row[column + 1] = second;
  }
}

// Whether all rows, `stride` floats apart, start at a multiple of `bytes` bytes.
inline bool rows_aligned(const float* rows, int64_t stride, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(rows) % static_cast<size_t>(bytes) == 0 && stride * 4 % bytes == 0;
}

// A persistent grid has kBlocks of a tile for each.
inline int multiprocessors([[maybe_unused]] const Device& device) {
#ifdef __CUDACC__
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device.index), "device");
  return count;
#else
  return simt::schedule.multiprocessors;
#endif
}

// Many rows: bound by the tensor cores. Two blocks a multiprocessor hide each other's prologue and epilogue.
struct WideTile {
  static constexpr int kRows = 128, kColumns = 128, kDepth = 32;
  static constexpr int kWarpRows = 64, kWarpColumns = 32;
  static constexpr int kStages = 4, kBlocks = 2;  // kBlocks: of a multiprocessor
  static EEP_HOST_DEVICE constexpr bool takes(int rows) { return rows > kFewRows; }  // of a group
};
// At most kFewRows rows: bound by reading the weights once; small blocks, many bytes under way.
struct FewTile {
  static constexpr int kRows = kFewRows, kColumns = 64, kDepth = 64;
  static constexpr int kWarpRows = 16, kWarpColumns = 16;
  static constexpr int kStages = 4, kBlocks = 4;
  static EEP_HOST_DEVICE constexpr bool takes(int rows) { return rows <= kFewRows; }
};

template <class Tile>
struct TileSize {
  static constexpr int kWarpsAcross = Tile::kColumns / Tile::kWarpColumns;
  static constexpr int kThreads = Tile::kRows / Tile::kWarpRows * kWarpsAcross * 32;
  static constexpr int kPieces = Tile::kDepth / 8;                  // of 16 bytes, of a row of a stage
  static constexpr int kAShare = Tile::kRows * kPieces / kThreads;  // pieces of a stage a thread brings
  static constexpr int kBShare = Tile::kColumns * kPieces / kThreads;
  static constexpr int kStageElements = (Tile::kRows + Tile::kColumns) * Tile::kDepth;
  static constexpr size_t kSharedBytes = size_t{2} * Tile::kStages * kStageElements;
  static_assert(kAShare * kThreads == Tile::kRows * kPieces);
  static_assert(kBShare * kThreads == Tile::kColumns * kPieces);
  static_assert(kThreads % kPieces == 0 && Tile::kWarpRows % 16 == 0 && Tile::kWarpColumns % 16 == 0);
};

// The product of one tile. Lane l of the warp holds, with g = l / 4 and q = l % 4, in d[i][j][e] row
// warp_row + 16 i + g + 8 (e / 2), column warp_column + 8 j + 2 q + e % 2 of the tile.
//
// Source: const float* a_row(int row) and const uint16_t* b_row(int column), the rows of the tile or null;
// rows of b start at 16 bytes and have whole pieces.
template <class Tile, class Half, class Source>
struct MmaProduct {
  using Size = TileSize<Tile>;
  static constexpr int kRowBlocks = Tile::kWarpRows / 16, kColumnBlocks = Tile::kWarpColumns / 8;

  float d[kRowBlocks][kColumnBlocks][4];

  static __device__ int lane() { return threadIdx.x % 32; }
  static __device__ int warp_row() { return threadIdx.x / 32 / Size::kWarpsAcross * Tile::kWarpRows; }
  static __device__ int warp_column() { return threadIdx.x / 32 % Size::kWarpsAcross * Tile::kWarpColumns; }

  // Called by the whole block. vectors: rows of a start at 16 bytes and k is a multiple of 4.
  __device__ void multiply(const Source& source, int k, bool vectors) {
    // This thread brings piece `piece` of rows first_row, first_row + kRowStep, ... of each stage.
    constexpr int kRowStep = Size::kThreads / Size::kPieces;
    const int piece = threadIdx.x % Size::kPieces, first_row = threadIdx.x / Size::kPieces;
    const float* a[Size::kAShare];     // [k], or null
    const uint16_t* b[Size::kBShare];  // [k], or null
    for (int i = 0; i < Size::kAShare; ++i) a[i] = source.a_row(first_row + i * kRowStep);
    for (int i = 0; i < Size::kBShare; ++i) b[i] = source.b_row(first_row + i * kRowStep);
    for (auto& rows : d) {
      for (auto& block : rows) {
        for (float& element : block) element = 0;
      }
    }

    uint16_t* const shared = gpu::dynamic_shared<uint16_t>();
    const int steps = (k + Tile::kDepth - 1) / Tile::kDepth;
    float values[Size::kAShare][8];
    const auto stage_at = [shared](int step) { return shared + step % Tile::kStages * Size::kStageElements; };
    const auto copy_b = [&](int step) {
      uint16_t* const tile = stage_at(step) + Tile::kRows * Tile::kDepth;
      const int at = step * Tile::kDepth + piece * 8;
      const int inside = at < k ? min(16, 2 * (k - at)) : 0;
      for (int i = 0; i < Size::kBShare; ++i) {
        const int to = swizzled_piece<Tile::kDepth>(first_row + i * kRowStep, piece);
        const bool there = b[i] != nullptr && inside > 0;
        cp_async_16(tile + 8 * to, there ? b[i] + at : source.any_b(), there ? inside : 0);
      }
    };
    const auto load_a = [&](int step) {
      const int at = step * Tile::kDepth + piece * 8;
      for (int i = 0; i < Size::kAShare; ++i) load_eight(a[i], at, k, vectors, values[i]);
    };
    const auto store_a = [&](int step) {
      uint16_t* const tile = stage_at(step);
      for (int i = 0; i < Size::kAShare; ++i) {
        const float(&v)[8] = values[i];
        st_shared_v4(
            tile + 8 * swizzled_piece<Tile::kDepth>(first_row + i * kRowStep, piece),
            {Half::pack(v[0], v[1]), Half::pack(v[2], v[3]), Half::pack(v[4], v[5]), Half::pack(v[6], v[7])});
      }
    };

    __syncthreads();  // nobody reads the previous tile's stages any more
    for (int step = 0; step < Tile::kStages - 1; ++step) {
      if (step < steps) {
        copy_b(step);
        load_a(step);
        store_a(step);
      }
      cp_async_commit();
    }
    for (int step = 0; step < steps; ++step) {
      cp_async_wait<Tile::kStages - 2>();
      __syncthreads();  // the stage is complete, and nobody reads the one to be refilled
      const int next = step + Tile::kStages - 1;
      if (next < steps) {
        copy_b(next);
        load_a(next);  // in flight while this stage is multiplied
      }
      cp_async_commit();
      multiply_stage(stage_at(step));
      if (next < steps) store_a(next);
    }
    cp_async_wait<0>();
  }

 private:
  __device__ void multiply_stage(const uint16_t* stage) {
    const uint16_t* const tile_a = stage;                               // [kRows, kDepth]
    const uint16_t* const tile_b = stage + Tile::kRows * Tile::kDepth;  // [kColumns, kDepth]
    const int a_row = warp_row() + lane() % 16, a_piece = lane() / 16;
    const int b_row = warp_column() + lane() % 8 + lane() / 16 * 8, b_piece = lane() / 8 % 2;
#pragma unroll
    for (int piece = 0; piece < Size::kPieces; piece += 2) {
      uint32_t fa[kRowBlocks][4];
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) {
        ldmatrix_x4(fa[i], tile_a + 8 * swizzled_piece<Tile::kDepth>(a_row + 16 * i, piece + a_piece));
      }
#pragma unroll
      for (int j = 0; j < kColumnBlocks; j += 2) {
        uint32_t fb[4];
        ldmatrix_x4(fb, tile_b + 8 * swizzled_piece<Tile::kDepth>(b_row + 8 * j, piece + b_piece));
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
          Half::mma(d[i][j], fa[i], {fb[0], fb[1]});
          Half::mma(d[i][j + 1], fa[i], {fb[2], fb[3]});
        }
      }
    }
  }
};

}  // namespace eep::EEP_GPU_NS
