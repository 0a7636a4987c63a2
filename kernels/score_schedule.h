// How the vocabulary is cut for score on the CPU: blocks of columns are reduced one by one inside a segment,
// segments are combined at the end. Both depend on the vocabulary alone, since they show in the bits of a
// sum.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/gemm_schedule.h"

namespace eep {

inline constexpr int64_t kScoreBlock = 4 * kChunkColumns;  // columns whose logits are held at once
inline constexpr int64_t kScoreSegments = 64;              // at most
inline constexpr int64_t kScoreRows = 24;                  // distinct rows of x taken together

struct ScoreSegments {
  int64_t vocabulary = 0;
  int64_t columns = 0;  // of a segment, a multiple of kScoreBlock
  int64_t count = 0;

  explicit constexpr ScoreSegments(int64_t vocabulary_)
      : vocabulary(vocabulary_),
        columns(((vocabulary_ + kScoreSegments - 1) / kScoreSegments + kScoreBlock - 1) / kScoreBlock *
                kScoreBlock),
        count((vocabulary_ + columns - 1) / columns) {}
  constexpr int64_t begin(int64_t segment) const { return segment * columns; }
  constexpr int64_t end(int64_t segment) const { return std::min(vocabulary, (segment + 1) * columns); }
};

// Consecutive wanted positions of at most kScoreRows distinct rows: positions [begin, end).
struct ScoreBlock {
  int64_t begin = 0, end = 0;
  int64_t rows = 0;
  bool bf16 = false;                  // products of precision bf16
  const float* row[kScoreRows];       // [rows] pointers to [hidden]
  const uint16_t* row16[kScoreRows];  // the same in bf16, or nulls
  int64_t position[kScoreRows + 1];   // [rows + 1] first wanted position of each row
};

// What is known of one row after some columns.
struct RowSum {
  float maximum;
  float sum;  // of exp(logit - maximum)
  int32_t argmax;
};

}  // namespace eep
