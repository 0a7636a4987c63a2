// The one matrix product of the CPU backend: rows of f32 times packed panels of 16 weight rows.
//   product[row, 16 p + c] = sum_k rows[row][k] * panel[p][k][c]
// Lanes lie along the output columns, so each output is one chain of fused multiply-adds in ascending k. The
// depth may be cut into blocks: the accumulator is then stored and loaded again, which changes no bit.
//
// A tile of up to 6 rows keeps its accumulators in registers. With few rows, 16-bit weights are widened as
// they are loaded; with many, a block of a panel is widened once into L1 and serves all row tiles.
//
// Included inside *_cpu.cpp, compiled once per target.
#if defined(EEP_KERNELS_GEMM_PANEL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EEP_KERNELS_GEMM_PANEL_H_
#undef EEP_KERNELS_GEMM_PANEL_H_
#else
#define EEP_KERNELS_GEMM_PANEL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/gemm.h"
#include "kernels/gemm_schedule.h"
#include "kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// Panels a tile of `rows` rows covers at once: enough independent chains to hide the latency of the fma.
constexpr int tile_panels(int rows) {
  if (kRegisters == 1) return rows <= 3 ? 4 : 2;
  return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}
inline constexpr int kMaxTileRows = 6;
inline constexpr int kWidePanels = tile_panels(kMaxTileRows);

// What a tile reads and writes, besides its weights.
struct TileIo {
  const float* const* rows;  // [tile rows] pointers to the rows at the block's first k
  float* product;            // [tile rows, kChunkColumns] at the tile's first column
  bool resume;               // start from the product's values, not from 0
};

template <int kRows, int kPanels, typename T>
HWY_INLINE void tile(const T* HWY_RESTRICT panels,  // [kPanels][stride], each [depth][16]
                     int64_t stride, int64_t depth, const TileIo& io) {
  Lanes sum[kRows][kPanels];
  const float* HWY_RESTRICT row[kRows];
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    row[r] = io.rows[r];
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) {
      sum[r][p] = io.resume ? load(io.product + r * kChunkColumns + p * kLanes) : zero();
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Lanes weight[kPanels];
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) weight[p] = load(panels + p * stride + k * kLanes);
    EEP_UNROLL for (int r = 0; r < kRows; ++r) {
      const Lanes x = broadcast(row[r][k]);
      EEP_UNROLL for (int p = 0; p < kPanels; ++p) sum[r][p] = fma(x, weight[p], sum[r][p]);
    }
  }
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) {
      store(sum[r][p], io.product + r * kChunkColumns + p * kLanes);
    }
  }
}

// One row tile over `count` panels.
template <int kRows, typename T>
HWY_NOINLINE void tile_row(const T* panels, int64_t stride, int64_t depth, TileIo io, int count) {
  constexpr int kPanels = tile_panels(kRows);
  int p = 0;
  const auto advance = [&](int step) HWY_ATTR {
    p += step;
    panels += step * stride;
    io.product += step * kLanes;
  };
  while (p + kPanels <= count) {
    tile<kRows, kPanels>(panels, stride, depth, io);
    advance(kPanels);
  }
  if constexpr (kPanels > 2) {
    if (p + 2 <= count) {
      tile<kRows, 2>(panels, stride, depth, io);
      advance(2);
    }
  }
  if constexpr (kPanels > 1) {
    if (p < count) tile<kRows, 1>(panels, stride, depth, io);
  }
}

template <typename T>
HWY_INLINE void tile_rows(int rows, const T* panels, int64_t stride, int64_t depth, const TileIo& io,
                          int count) {
  switch (rows) {
    case 1:
      return tile_row<1>(panels, stride, depth, io, count);
    case 2:
      return tile_row<2>(panels, stride, depth, io, count);
    case 3:
      return tile_row<3>(panels, stride, depth, io, count);
    case 4:
      return tile_row<4>(panels, stride, depth, io, count);
    case 5:
      return tile_row<5>(panels, stride, depth, io, count);
    default:
      return tile_row<6>(panels, stride, depth, io, count);
  }
}

// All row tiles over a block of the depth. Tiles differ by at most one row: 7 rows are 4 and 3, not 6 and 1.
template <typename T>
HWY_INLINE void all_rows(const T* panels, int64_t stride, int64_t k_begin, int64_t depth,
                         const float* const* rows, int64_t row_count, float* product, int count) {
  const int64_t tiles = (row_count + kMaxTileRows - 1) / kMaxTileRows;
  int64_t row = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t end = row_count * (t + 1) / tiles;
    const float* moved[kMaxTileRows];
    for (int64_t r = row; r < end; ++r) moved[r - row] = rows[r] + k_begin;
    tile_rows(static_cast<int>(end - row), panels, stride, depth,
              TileIo{moved, product + row * kChunkColumns, k_begin > 0}, count);
    row = end;
  }
}

// product[row, 0 .. 16 * count) for row < row_count <= kBlockRows, count <= kChunkPanels.
template <typename T>
HWY_NOINLINE void panel_product(const T* panels,  // [count][k][16]
                                int64_t k,
                                const float* const* rows,  // [row_count] pointers to [k]
                                int64_t row_count, int count,
                                float* HWY_RESTRICT product) {  // [row_count, kChunkColumns]
  if (row_count <= kFewRows) return all_rows(panels, k * kLanes, 0, k, rows, row_count, product, count);
  HWY_ALIGN float wide[std::is_same_v<T, float> ? 1 : kWidePanels * kBlockDepth * kLanes];
  for (int64_t k_begin = 0; k_begin < k; k_begin += kBlockDepth) {
    const int64_t depth = std::min(kBlockDepth, k - k_begin);
    for (int p = 0; p < count; p += kWidePanels) {
      const T* block = panels + (p * k + k_begin) * kLanes;
      const int group = std::min(kWidePanels, count - p);
      if constexpr (std::is_same_v<T, float>) {
        all_rows(block, k * kLanes, k_begin, depth, rows, row_count, product + p * kLanes, group);
      } else {
        for (int g = 0; g < group; ++g) {
          for (int64_t i = 0; i < depth * kLanes; i += kLanes) {
            store(load(block + g * k * kLanes + i), wide + g * kBlockDepth * kLanes + i);
          }
        }
        all_rows(static_cast<const float*>(wide), kBlockDepth * kLanes, k_begin, depth, rows, row_count,
                 product + p * kLanes, group);
      }
    }
  }
}

// The same for panels [panel, panel + count) of a matrix of any dtype.
HWY_INLINE void matrix_product(const PackedMatrix& w, int64_t panel, int count, const float* const* rows,
                               int64_t row_count, float* product) {
  const int64_t offset = panel * w.k * kLanes;
  switch (w.dtype) {
    case DType::kBF16:
      return panel_product(static_cast<const Bf16*>(w.data) + offset, w.k, rows, row_count, count, product);
    case DType::kF16:
      return panel_product(static_cast<const F16*>(w.data) + offset, w.k, rows, row_count, count, product);
    default:
      return panel_product(static_cast<const float*>(w.data) + offset, w.k, rows, row_count, count, product);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
