// PromptChunks: prompts cut into sets of whole trees, so that one chunk's rows fit the memory plan. Rows keep
// their order; a chunk is a range of rows.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/prompts.h"
#include "kernels/attention.h"

namespace eep {

// One query run and its key spans, as offsets within the chunk's rows of one candidate.
struct ChunkRun {
  int32_t query_begin = 0;  // among the query rows (all rows, or the wanted ones)
  int32_t query_rows = 0;
  int32_t first_position = 0;
  int32_t span_begin = 0;
  int32_t span_count = 0;
};
struct ChunkSpan {
  int32_t row_begin = 0;  // among all rows
  int32_t rows = 0;
};

struct AttentionLayout {
  std::vector<ChunkRun> runs;
  std::vector<ChunkSpan> spans;
};

struct PromptChunk {
  int32_t row_begin = 0, rows = 0;      // range in the prompts
  int32_t score_begin = 0, scores = 0;  // range in Prompts::scores
  std::vector<int32_t> tokens;          // [rows]
  std::vector<int32_t> positions;       // [rows]
  // Rows (within the chunk) that are scored, ascending: all that the last layer must finish.
  std::vector<int32_t> wanted;
  std::vector<int32_t> wanted_positions;  // [wanted]
  std::vector<int32_t> wanted_of_score;   // [scores] index into wanted
  std::vector<int32_t> targets;           // [scores]
  AttentionLayout all;                    // queries are all rows
  AttentionLayout last;                   // queries are the wanted rows
};

// A list of one stream for `count` streams that lie one after the other, `step` apart.
std::vector<int32_t> repeat(const std::vector<int32_t>& values, int64_t count, int32_t step);

// Rows of the largest tree: no chunk can be smaller.
int64_t largest_tree_rows(const Prompts& prompts);

// first_row: of the first tree that is wanted.
std::vector<PromptChunk> cut_prompts(const Prompts& prompts, int64_t chunk_rows, int64_t first_row = 0);

}  // namespace eep
