// The one matrix product of the CPU backend: rows of f32 times packed panels of 16 weight rows.
//   product[row, 16 p + c] = sum_k rows[row][k] * panel[p][k][c]
// Lanes lie along the output columns, so each output is one chain of fused multiply-adds in ascending k.
//
// A tile of up to 6 or 12 rows keeps its accumulators in registers; 16-bit weights are widened as they are
// loaded, which costs less than writing the widened ones down, even for many rows.
//
// Included inside *_cpu.cpp, compiled once per target.
#if defined(EEP_KERNELS_GEMM_PANEL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EEP_KERNELS_GEMM_PANEL_H_
#undef EEP_KERNELS_GEMM_PANEL_H_
#else
#define EEP_KERNELS_GEMM_PANEL_H_
#endif

#include <algorithm>

#include "hwy/cache_control.h"
#include "kernels/common/packed_matrix.h"
#include "kernels/cpu/gemm_schedule.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// Panels a tile of `rows` rows covers at once: enough independent chains to hide the latency of the fma.
constexpr int tile_panels(int rows) {
  if (kRegisters == 1) return rows <= 3 ? 4 : 2;
  return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}
// Rows of a tile: 12 sums, or 24 where there are 32 registers and weights to widen, which twice the rows
// share. Long rows stay with 6: twelve of them at a power of two apart are more than a set of the cache
// holds.
inline constexpr int kMaxTileRows = 6;
template <typename T>
inline constexpr int kMaxShortRows = kRegisters == 1 && sizeof(T) == 2 ? 12 : kMaxTileRows;
inline constexpr int64_t kShortRow = 512;
inline constexpr int64_t kPairRows = 48;

// What a tile fetches into the cache for later while it computes, `step` bytes per panel in each of its k
// steps. Few rows read weights from memory as fast as it can give them, then compute from the cache for the
// other row tiles: one after the other unless the next weights are under way meanwhile.
struct Ahead {
  const char* begin;
  int64_t step;
};

template <typename T>
HWY_INLINE Lanes load_panel(const T* p) {
  return load(p);
}
HWY_INLINE Lanes load_panel(const Bf16* p) { return load_paired(p); }

template <int kRows, int kPanels, typename T>
HWY_INLINE void tile(const T* HWY_RESTRICT panels,  // [kPanels][k][16]
                     int64_t k,
                     const float* const* rows,     // [kRows] pointers to [k]
                     float* HWY_RESTRICT product,  // [kRows, kChunkColumns]
                     Ahead ahead) {
  Lanes sum[kRows][kPanels];
  const float* HWY_RESTRICT row[kRows];
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    row[r] = rows[r];
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) sum[r][p] = zero();
  }
  for (int64_t i = 0; i < k; ++i) {
    Lanes weight[kPanels];
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) weight[p] = load_panel(panels + (p * k + i) * kLanes);
    hwy::Prefetch(ahead.begin + i * kPanels * ahead.step);
    EEP_UNROLL for (int r = 0; r < kRows; ++r) {
      const Lanes x = broadcast(row[r][i]);
      EEP_UNROLL for (int p = 0; p < kPanels; ++p) sum[r][p] = fma(x, weight[p], sum[r][p]);
    }
  }
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) {
      store(sum[r][p], product + r * kChunkColumns + p * kLanes);
    }
  }
}

// One row tile over `count` panels.
template <int kRows, typename T>
HWY_NOINLINE void tile_row(const T* panels, int64_t k, const float* const* rows, float* product, int count,
                           Ahead ahead) {
  constexpr int kPanels = tile_panels(kRows);
  const auto advance = [&](int step) HWY_ATTR {
    count -= step;
    ahead.begin += step * k * ahead.step;
    panels += step * k * kLanes;
    product += step * kLanes;
  };
  // Not for loops: clang 14 does not see that advance() changes the count.
  while (count >= kPanels) {
    tile<kRows, kPanels>(panels, k, rows, product, ahead);
    advance(kPanels);
  }
  if constexpr (kPanels > 2) {
    while (count >= 2) {
      tile<kRows, 2>(panels, k, rows, product, ahead);
      advance(2);
    }
  }
  if constexpr (kPanels > 1) {
    while (count >= 1) {
      tile<kRows, 1>(panels, k, rows, product, ahead);
      advance(1);
    }
  }
}

// The same for a number of rows, at most kMost, that is known at run time.
template <int kMost, typename T>
HWY_INLINE void tile_rows(int row_count, const T* panels, int64_t k, const float* const* rows, float* product,
                          int count, Ahead ahead) {
  if constexpr (kMost > 1) {
    if (row_count < kMost) {
      tile_rows<kMost - 1>(row_count, panels, k, rows, product, count, ahead);
      return;
    }
  }
  tile_row<kMost>(panels, k, rows, product, count, ahead);
}

// product[row, 0 .. 16 * count) for all rows, count <= kChunkPanels. Row tiles differ by at most one row: 7
// rows are 3 and 4, not 6 and 1.
template <typename T>
HWY_INLINE void all_tiles(const T* panels,  // [count][k][16]
                          int64_t k,
                          const float* const* rows,  // [row_count] pointers to [k]
                          int64_t row_count, int count,
                          float* product,      // [row_count, kChunkColumns]
                          const char* next) {  // as many panels, wanted next, or null
  const int64_t most = k <= kShortRow ? kMaxShortRows<T> : kMaxTileRows;
  const int64_t tiles = (row_count + most - 1) / most;
  const int64_t share = static_cast<int64_t>(sizeof(T)) * kLanes / tiles;
  for (int64_t t = 0, row = 0; t < tiles; ++t) {
    const int64_t end = row_count * (t + 1) / tiles;
    float* out = product + row * kChunkColumns;
    const Ahead ahead =
        next ? Ahead{next + t * count * k * share, share} : Ahead{reinterpret_cast<const char*>(panels), 0};
    tile_rows<kMaxShortRows<T>>(static_cast<int>(end - row), panels, k, rows + row, out, count, ahead);
    row = end;
  }
}

// product[row, 0 .. 16 * count) for all rows, count <= kChunkPanels. What is walked over again lies in L2: a
// pair of panels for all row tiles while the rows are few, a row tile for all panels when they are many.
template <typename T>
HWY_NOINLINE void panel_product(const T* panels,  // [count][k][16]
                                int64_t k,
                                const float* const* rows,  // [row_count] pointers to [k]
                                int64_t row_count, int count,
                                float* product) {  // [row_count, kChunkColumns]
  const bool pairs = row_count > kMaxTileRows && row_count <= kPairRows;
  const int step = pairs ? 2 : count;
  for (int p = 0; p < count; p += step) {
    const T* const here = panels + p * k * kLanes;
    // Past the last pair of a chunk the next chunk begins; past the last chunk a fetch is for nothing, and
    // harmless.
    const char* const next = pairs ? reinterpret_cast<const char*>(here + step * k * kLanes) : nullptr;
    all_tiles(here, k, rows, row_count, std::min(step, count - p), product + p * kLanes, next);
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
