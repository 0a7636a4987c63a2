// How a product of precision bf16 is cut into units of work on the CPU: blocks of rows (gemm_schedule.h)
// times chunks of panels, twice as wide as those of f32, because each unit reads its rows anew. Integers
// only; the cut never shows in a result (gemm_bf16.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/packed_matrix.h"
#include "kernels/cpu/gemm_schedule.h"

namespace eep {

inline constexpr int64_t kBf16Step = 32;              // columns of k of one tile
inline constexpr int kBf16Panels = 2 * kChunkPanels;  // of a chunk
inline constexpr int64_t kBf16Columns = kBf16Panels * kPanel;
inline constexpr int64_t kBf16Depth = 256;  // of a block of k that is widened at once

constexpr int64_t bf16_chunk_count(int64_t n) { return (panel_count(n) + kBf16Panels - 1) / kBf16Panels; }
constexpr int bf16_chunk_panels(int64_t n, int64_t chunk) {
  return static_cast<int>(std::min<int64_t>(kBf16Panels, panel_count(n) - chunk * kBf16Panels));
}

// Where a panel of a packed matrix begins.
inline const uint16_t* bf16_panel(const PackedMatrix& w, int64_t panel) {
  const int64_t depth = (w.k + kBf16Step - 1) / kBf16Step * kBf16Step;
  return static_cast<const uint16_t*>(w.data) + panel * depth * kPanel;
}

}  // namespace eep
