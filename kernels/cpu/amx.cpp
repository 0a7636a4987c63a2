// amx: detection, and tile products over blocks of k: rows are packed into tiles once for all panels, two
// tiles of rows times two panels keep four sums in tile registers.
#include "kernels/cpu/amx.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/common/float16.h"

#if defined(__x86_64__) && defined(__linux__)
#define EEP_AMX_COMPILED 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define EEP_AMX_COMPILED 0
#endif

namespace eep {

#if EEP_AMX_COMPILED
namespace {

#ifndef EEP_AMX  // a test puts software tiles in place of the instructions
#define EEP_AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl")))
#endif

constexpr int64_t kTileRows = 16, kStep = 32, kColumns = 16;
constexpr int64_t kTile = kStep * kColumns;  // elements of a step of a panel
constexpr int64_t kMostRows = 96;
constexpr int64_t kDepth = 512;  // of a block: two panels of it lie in L1

uint64_t enabled_state() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

bool find() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr uint32_t kBf16 = 1u << 22, kTiles = 1u << 24, kAvx512 = 1u << 16;
  constexpr uint64_t kTileState = uint64_t{3} << 17;
  if ((d & kBf16) == 0 || (d & kTiles) == 0 || (b & kAvx512) == 0) return false;
  if ((enabled_state() & kTileState) != kTileState) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// What _tile_loadconfig reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Sums 0 to 3, tiles 4 and 5 of rows, 6 and 7 of weights.
EEP_AMX void configure(int64_t rows) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = static_cast<uint8_t>(tile < 6 ? rows : kTileRows);
  }
  _tile_loadconfig(&config);
}

// 32 of k of one row, zeros beyond `count`.
inline void copy_step(const uint16_t* from, int64_t count, uint16_t* to) {
  if (count >= kStep) {
    std::memcpy(to, from, kStep * sizeof(uint16_t));
    return;
  }
  std::memset(to, 0, kStep * sizeof(uint16_t));
  std::memcpy(to, from, static_cast<size_t>(count) * sizeof(uint16_t));
}
inline void copy_step(const float* from, int64_t count, uint16_t* to) {
  for (int64_t i = 0; i < kStep; ++i) to[i] = i < count ? f32_to_bf16(from[i]) : uint16_t{0};
}

// tiles [padded / tile_rows][steps][tile_rows][32] of columns [begin, begin + 32 steps).
template <typename Row>
__attribute__((noinline)) EEP_AMX void pack(const Row* const* rows, int64_t row_count, int64_t padded,
                                            int64_t tile_rows, int64_t begin, int64_t steps, int64_t k,
                                            uint16_t* tiles) {
  for (int64_t row = 0; row < padded; ++row) {
    uint16_t* to = tiles + (row / tile_rows * steps * tile_rows + row % tile_rows) * kStep;
    for (int64_t step = 0; step < steps; ++step, to += tile_rows * kStep) {
      const int64_t column = begin + step * kStep;
      if (row < row_count) {
        copy_step(rows[row] + column, k - column, to);
      } else {
        std::memset(to, 0, kStep * sizeof(uint16_t));
      }
    }
  }
}

// out += tiles x panels, for one row tile and up to four panels, or two and up to two.
template <int kRowTiles, int kPanels>
__attribute__((noinline)) EEP_AMX void multiply(const uint16_t* tiles, int64_t tile_rows,
                                                const uint16_t* panels, int64_t panel_elements, int64_t steps,
                                                float* out, int64_t stride) {
  static_assert(kRowTiles * kPanels <= 4 && kRowTiles <= 2);
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(float));
  const int64_t tile = tile_rows * kStep;
  float* const below = out + tile_rows * stride;
  // Sums: 0 to 3 are the panels of one row tile, or 0 and 1 those of the first, 2 and 3 of the second.
  _tile_loadd(0, out, bytes);
  if constexpr (kPanels > 1) _tile_loadd(1, out + kColumns, bytes);
  if constexpr (kPanels > 2) _tile_loadd(2, out + 2 * kColumns, bytes);
  if constexpr (kPanels > 3) _tile_loadd(3, out + 3 * kColumns, bytes);
  if constexpr (kRowTiles > 1) _tile_loadd(2, below, bytes);
  if constexpr (kRowTiles > 1 && kPanels > 1) _tile_loadd(3, below + kColumns, bytes);
  for (int64_t step = 0; step < steps; ++step) {
    const uint16_t* const weight = panels + step * kTile;
    _tile_loadd(4, tiles + step * tile, 64);
    _tile_loadd(6, weight, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kPanels > 1) {
      _tile_loadd(7, weight + panel_elements, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRowTiles > 1) {
      _tile_loadd(5, tiles + (steps + step) * tile, 64);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kPanels > 1) _tile_dpbf16ps(3, 5, 7);
    }
    if constexpr (kPanels > 2) {
      _tile_loadd(6, weight + 2 * panel_elements, 64);
      _tile_dpbf16ps(2, 4, 6);
    }
    if constexpr (kPanels > 3) {
      _tile_loadd(7, weight + 3 * panel_elements, 64);
      _tile_dpbf16ps(3, 4, 7);
    }
  }
  _tile_stored(0, out, bytes);
  if constexpr (kPanels > 1) _tile_stored(1, out + kColumns, bytes);
  if constexpr (kPanels > 2) _tile_stored(2, out + 2 * kColumns, bytes);
  if constexpr (kPanels > 3) _tile_stored(3, out + 3 * kColumns, bytes);
  if constexpr (kRowTiles > 1) _tile_stored(2, below, bytes);
  if constexpr (kRowTiles > 1 && kPanels > 1) _tile_stored(3, below + kColumns, bytes);
}

// All row tiles of a block of k with the panels of one part.
void multiply_block(const uint16_t* tiles, int64_t tile_count, int64_t tile_rows, const uint16_t* panels,
                    int count, int64_t panel_elements, int64_t steps, float* out, int64_t stride) {
  const int together = tile_count == 1 ? 4 : 2;
  for (int p = 0; p < count; p += together) {
    const int width = std::min(together, count - p);
    const uint16_t* const at = panels + p * panel_elements;
    for (int64_t t = 0; t < tile_count; t += 2) {
      const uint16_t* const from = tiles + t * steps * tile_rows * kStep;
      float* const to = out + t * tile_rows * stride + p * kColumns;
      const auto go = [&](auto* function) {
        function(from, tile_rows, at, panel_elements, steps, to, stride);
      };
      if (t + 1 < tile_count) {
        go(width == 2 ? multiply<2, 2> : multiply<2, 1>);
      } else {
        go(width == 4   ? multiply<1, 4>
           : width == 3 ? multiply<1, 3>
           : width == 2 ? multiply<1, 2>
                        : multiply<1, 1>);
      }
    }
  }
}

template <typename Row>
EEP_AMX void products(const PanelSums* parts, int part_count, int panels, int64_t k, const Row* const* rows,
                      int64_t row_count, int64_t stride) {
  if (row_count == 0) return;
  // Tiles of equal height: their time is that of their rows.
  const int64_t tile_count = (row_count + kTileRows - 1) / kTileRows;
  const int64_t tile_rows = (row_count + tile_count - 1) / tile_count, padded = tile_count * tile_rows;
  const int64_t whole = (k + kStep - 1) / kStep * kStep;
  // Weights that few rows read once need no blocks of k.
  const int64_t most = tile_count > 2 ? kDepth : kMostRows * kDepth / padded / kStep * kStep;
  alignas(64) uint16_t tiles[kMostRows * kDepth];
  for (int part = 0; part < part_count; ++part) {
    for (int64_t row = 0; row < padded; ++row)
      std::memset(parts[part].out + row * stride, 0, static_cast<size_t>(panels * kColumns) * sizeof(float));
  }
  configure(tile_rows);
  for (int64_t begin = 0; begin < whole; begin += most) {
    const int64_t steps = std::min(most, whole - begin) / kStep;
    pack(rows, row_count, padded, tile_rows, begin, steps, k, tiles);
    asm volatile("" : : : "memory");  // the tile instructions do not say that they read memory
    for (int part = 0; part < part_count; ++part) {
      multiply_block(tiles, tile_count, tile_rows, parts[part].panels + begin * kColumns, panels,
                     whole * kColumns, steps, parts[part].out, stride);
    }
  }
  _tile_release();
}

}  // namespace
#endif  // EEP_AMX_COMPILED

bool amx_found() {
#if EEP_AMX_COMPILED
  static const bool found = find();
  return found;
#else
  return false;
#endif
}

namespace {
std::atomic<bool>& in_use() {
  static std::atomic<bool> used{amx_found()};
  return used;
}
}  // namespace

bool amx_in_use() { return in_use().load(std::memory_order_relaxed); }
void set_amx(bool used) { in_use().store(used && amx_found()); }

#if EEP_AMX_COMPILED
void amx_products(const PanelSums* parts, int part_count, int panels, int64_t k, const uint16_t* const* rows,
                  int64_t row_count, int64_t stride) {
  products(parts, part_count, panels, k, rows, row_count, stride);
}
void amx_products(const PanelSums* parts, int part_count, int panels, int64_t k, const float* const* rows,
                  int64_t row_count, int64_t stride) {
  products(parts, part_count, panels, k, rows, row_count, stride);
}
#else
// Never called: nothing sets amx_in_use().
void amx_products(const PanelSums*, int, int, int64_t, const uint16_t* const*, int64_t, int64_t) {}
void amx_products(const PanelSums*, int, int, int64_t, const float* const*, int64_t, int64_t) {}
#endif

}  // namespace eep
