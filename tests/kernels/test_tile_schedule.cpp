// tile_schedule: every tile once, and shared memory without bank conflicts.
#include <doctest/doctest.h>

#include <cstddef>
#include <set>
#include <utility>

#include "kernels/gpu/tile_schedule.h"

using namespace eep;

TEST_CASE("tile_schedule: every tile of a group is visited once, bands of rows in turn") {
  for (int32_t row_tiles = 1; row_tiles <= 3 * kBandTiles + 1; ++row_tiles) {
    for (int32_t column_tiles = 1; column_tiles <= 9; ++column_tiles) {
      std::set<std::pair<int32_t, int32_t>> seen;
      int32_t band = 0;
      for (int32_t i = 0; i < row_tiles * column_tiles; ++i) {
        const TileAt at = tile_at(i, row_tiles, column_tiles);
        REQUIRE(at.row >= 0);
        REQUIRE(at.row < row_tiles);
        REQUIRE(at.column >= 0);
        REQUIRE(at.column < column_tiles);
        CHECK(at.row / kBandTiles >= band);
        band = at.row / kBandTiles;
        seen.insert({at.row, at.column});
      }
      CHECK(seen.size() == static_cast<size_t>(row_tiles * column_tiles));
    }
  }
}

// The pieces that eight lanes access at once lie in different groups of four banks.
template <int kDepth>
void check_swizzle(int rows) {
  constexpr int kPieces = kDepth / 8;
  std::set<int> places;
  for (int row = 0; row < rows; ++row) {
    for (int piece = 0; piece < kPieces; ++piece) {
      const int place = swizzled_piece<kDepth>(row, piece);
      CHECK(place >= 0);
      CHECK(place < rows * kPieces);
      places.insert(place);
    }
  }
  CHECK(places.size() == static_cast<size_t>(rows * kPieces));
  for (int row = 0; row + 8 <= rows; row += 8) {  // ldmatrix: eight rows at one piece
    for (int piece = 0; piece < kPieces; ++piece) {
      std::set<int> banks;
      for (int r = 0; r < 8; ++r) banks.insert(swizzled_piece<kDepth>(row + r, piece) % 8);
      CHECK(banks.size() == 8);
    }
  }
  for (int first = 0; first < rows * kPieces; first += 8) {  // copies: eight neighbouring pieces
    std::set<int> banks;
    for (int i = first; i < first + 8; ++i)
      banks.insert(swizzled_piece<kDepth>(i / kPieces, i % kPieces) % 8);
    CHECK(banks.size() == 8);
  }
}

TEST_CASE("tile_schedule: swizzled tiles are permutations without bank conflicts") {
  check_swizzle<32>(128);
  check_swizzle<64>(256);
}

TEST_CASE("tile_schedule: gate and up rows alternate by eights") {
  for (int row = 0; row < 256; ++row) {
    const GateUpRow at = gate_up_row(row);
    CHECK(at.up == (row % 16 >= 8));
    CHECK(at.column == (row - (at.up ? 8 : 0)) / 16 * 8 + row % 8);
    if (!at.up) {
      const GateUpRow twin = gate_up_row(row + 8);
      CHECK(twin.up);
      CHECK(twin.column == at.column);
    }
    // Whoever copies every sixteenth row stays in one matrix and goes on by eight columns.
    CHECK(gate_up_row(row + 16).up == at.up);
    CHECK(gate_up_row(row + 16).column == at.column + 8);
  }
}

TEST_CASE("tile_schedule: rows of 16-bit matrices start at 16 bytes") {
  CHECK(row_stride_16bit(1) == 8);
  CHECK(row_stride_16bit(8) == 8);
  CHECK(row_stride_16bit(33) == 40);
}
