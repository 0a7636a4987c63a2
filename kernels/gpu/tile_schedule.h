// tile_schedule.h - which tile of which matrix product a block computes, and where its bytes lie in shared
// memory: integers only, the same on host and device, tested exhaustively for small sizes.
#pragma once

#include <cstdint>

namespace eep {

#ifdef __CUDACC__
#define EEP_HOST_DEVICE __host__ __device__
#else
#define EEP_HOST_DEVICE
#endif

// A group of rows with at most this many goes to the few-rows tile. The bits are the same in both.
inline constexpr int kFewRows = 16;

// Row tiles that share a column of weight tiles before the next column: their activations stay in L2 while
// all weights go by once for the band.
inline constexpr int kBandTiles = 8;

struct TileAt {
  int32_t row;     // in tiles
  int32_t column;  // in tiles
};

// Tile number `index` of row_tiles x column_tiles: down a band's rows, then to the next column.
EEP_HOST_DEVICE constexpr TileAt tile_at(int32_t index, int32_t row_tiles, int32_t column_tiles) {
  const int32_t band = index / (kBandTiles * column_tiles);
  const int32_t within = index - band * kBandTiles * column_tiles;
  const int32_t left = row_tiles - band * kBandTiles;
  const int32_t band_rows = left < kBandTiles ? left : kBandTiles;
  return {band * kBandTiles + within % band_rows, within / band_rows};
}

EEP_HOST_DEVICE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Elements between two rows of a 16-bit weight matrix [n, k] in device memory: rows start at 16 bytes.
EEP_HOST_DEVICE constexpr int64_t row_stride_16bit(int64_t k) { return ceil_div(k, 8) * 8; }

// Where 16-byte piece `piece` of row `row` lies in a tile of rows of kDepth 16-bit elements, in pieces: any
// eight rows at one piece, and any eight neighbouring pieces, touch all 32 banks.
template <int kDepth>
EEP_HOST_DEVICE constexpr int swizzled_piece(int row, int piece) {
  constexpr int kPieces = kDepth / 8;        // of a row
  constexpr int kRowsPerLine = 8 / kPieces;  // rows in 128 bytes
  static_assert(kDepth == 32 || kDepth == 64, "rows of 64 or 128 bytes");
  return row * kPieces + (piece ^ (row / kRowsPerLine % kPieces));
}

// Row `row` of the interleaved gate/up tile: 8 rows of gate, the same 8 of up, and so on, so that the thread
// that holds a gate value of a product holds the up value of the same column.
struct GateUpRow {
  int column;  // of the intermediate dimension, from the tile's first
  bool up;
};
EEP_HOST_DEVICE constexpr GateUpRow gate_up_row(int row) {
  return {row / 16 * 8 + row % 8, row / 8 % 2 == 1};
}

}  // namespace eep
