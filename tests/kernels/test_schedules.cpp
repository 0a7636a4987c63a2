// The integer schedules of the CPU backend: every row, column and key belongs to one unit, for all small
// sizes.
#include <doctest/doctest.h>

#include <atomic>
#include <vector>

#include "kernels/attention_schedule.h"
#include "kernels/cpu/gemm_schedule.h"
#include "kernels/cpu/parallel.h"
#include "kernels/score_schedule.h"

using namespace eep;

TEST_CASE("schedules: row blocks cover the rows in order, none too large, nearly equal") {
  for (int64_t rows = 0; rows <= 600; ++rows) {
    const RowBlocks blocks(rows);
    int64_t next = 0, smallest = rows, largest = 0;
    for (int64_t block = 0; block < blocks.count; ++block) {
      REQUIRE(blocks.begin(block) == next);
      next = blocks.end(block);
      smallest = std::min(smallest, next - blocks.begin(block));
      largest = std::max(largest, next - blocks.begin(block));
    }
    REQUIRE(next == rows);
    REQUIRE(largest <= kBlockRows);
    if (blocks.count > 0) REQUIRE(largest - smallest <= 1);
  }
}

TEST_CASE("schedules: chunks cover the panels") {
  for (int64_t n = 1; n <= 700; ++n) {
    int64_t panels = 0;
    for (int64_t chunk = 0; chunk < chunk_count(n); ++chunk) {
      REQUIRE(chunk_panels(n, chunk) >= 1);
      REQUIRE(chunk_panels(n, chunk) <= kChunkPanels);
      panels += chunk_panels(n, chunk);
    }
    REQUIRE(panels == panel_count(n));
    REQUIRE(panels * kPanel >= n);
    REQUIRE((panels - 1) * kPanel < n);
  }
}

TEST_CASE("schedules: segments cover the vocabulary, in whole blocks, within their number") {
  for (int64_t vocabulary = 1; vocabulary < 200000; vocabulary += 1 + vocabulary / 37) {
    const ScoreSegments segments(vocabulary);
    REQUIRE(segments.count >= 1);
    REQUIRE(segments.count <= kScoreSegments);
    REQUIRE(segments.columns % kScoreBlock == 0);
    int64_t next = 0;
    for (int64_t s = 0; s < segments.count; ++s) {
      REQUIRE(segments.begin(s) == next);
      REQUIRE(segments.end(s) > next);
      next = segments.end(s);
    }
    REQUIRE(next == vocabulary);
  }
}

TEST_CASE("schedules: an attention tile's vectors fit its scratch") {
  for (int64_t group = 1; group <= kTileVectors; ++group) {
    REQUIRE(attention_tile_rows(group) >= 1);
    REQUIRE(attention_tile_rows(group) * group <= kTileVectors);
  }
}

TEST_CASE("schedules: parallel_for and parallel_rows do each unit once") {
  for (int threads : {1, 2, 3}) {
    Device device;
    device.threads = threads;
    for (int64_t count : {0, 1, 2, 7, 100}) {
      std::vector<std::atomic<int>> done(100);
      parallel_for(device, count, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
      for (int64_t i = 0; i < 100; ++i) REQUIRE(done[static_cast<size_t>(i)] == (i < count));
      for (int64_t grain : {1, 3, 1000}) {
        std::vector<std::atomic<int>> rows(100);
        parallel_rows(device, count, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++rows[static_cast<size_t>(i)];
        });
        for (int64_t i = 0; i < 100; ++i) REQUIRE(rows[static_cast<size_t>(i)] == (i < count));
      }
    }
  }
}
