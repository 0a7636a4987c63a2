// How a product is cut into units of work on the CPU: blocks of rows times chunks of panels. Integers only.
// The cut never shows in a result (gemm.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/packed_matrix.h"

namespace eep {

inline constexpr int kChunkPanels = 4;
inline constexpr int64_t kChunkColumns = kChunkPanels * kPanel;
inline constexpr int64_t kBlockRows = 96;

constexpr int64_t panel_count(int64_t n) { return (n + kPanel - 1) / kPanel; }
constexpr int64_t chunk_count(int64_t n) { return (panel_count(n) + kChunkPanels - 1) / kChunkPanels; }

// Panels of a chunk.
constexpr int chunk_panels(int64_t n, int64_t chunk) {
  return static_cast<int>(std::min<int64_t>(kChunkPanels, panel_count(n) - chunk * kChunkPanels));
}

// Rows cut into blocks of nearly equal size, none above kBlockRows.
struct RowBlocks {
  int64_t rows = 0;
  int64_t count = 0;

  explicit constexpr RowBlocks(int64_t rows_) : rows(rows_), count((rows_ + kBlockRows - 1) / kBlockRows) {}
  constexpr int64_t begin(int64_t block) const { return rows * block / count; }
  constexpr int64_t end(int64_t block) const { return rows * (block + 1) / count; }
};

}  // namespace eep
