// How attention is cut into units of work on the CPU. Integers only; only kKeyBlock shows in results.
#pragma once

#include <cstdint>

#include "kernels/cpu/gemm_schedule.h"

namespace eep {

inline constexpr int64_t kKeyBlock = 64;             // keys are reduced in blocks of these absolute positions
inline constexpr int64_t kTileVectors = kBlockRows;  // query rows of a tile times heads of a group
inline constexpr int64_t kMaxHeadDim = 512;
static_assert(kKeyBlock == kChunkColumns, "a block's scores are one chunk of the panel product");

// Query rows of a tile when a kv head serves `group` query heads.
constexpr int64_t attention_tile_rows(int64_t group) {
  const int64_t rows = kTileVectors / group;
  return rows < 1 ? 1 : rows < kKeyBlock ? rows : kKeyBlock;
}

}  // namespace eep
