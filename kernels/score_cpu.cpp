// score on the CPU: log-softmax at wanted positions. Rows go by in blocks; for each, the vocabulary's
// segments yield (maximum, sum of exponentials, arg-max), which are combined in ascending order. Threads
// share out the row blocks when there are many, else the segments.
#include <algorithm>

#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/score_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/scalar_math.h"
#include "kernels/cpu/gemm_bf16_panel.h"
#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/gemm_bf16.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/score.h"
#include "kernels/score_schedule.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

HWY_INLINE void merge_sums(RowSum& total, const RowSum& next) {
  if (next.maximum > total.maximum) {
    total.sum = fma(total.sum, exponential(total.maximum - next.maximum), next.sum);
    total.maximum = next.maximum;
    total.argmax = next.argmax;
  } else {
    total.sum = fma(next.sum, exponential(next.maximum - total.maximum), total.sum);
  }
}

// One block of `count` logits, padded to whole Lanes with minus infinity.
HWY_INLINE RowSum sum_block(const float* logits, int64_t column, int64_t count) {
  Lanes highest = broadcast(-kInfinity);
  for (int64_t i = 0; i < count; i += kLanes) highest = maximum(load(logits + i), highest);
  RowSum result{max_lanes(highest), 0.0f, static_cast<int32_t>(column)};
  Lanes total = zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    total = total + exponential(load(logits + i) - broadcast(result.maximum));
  }
  result.sum = sum_lanes(total);
  const float* found = std::find(logits, logits + count, result.maximum);
  if (found != logits + count) result.argmax += static_cast<int32_t>(found - logits);
  return result;
}

// logits [rows, kScoreBlock] of the columns of one block.
HWY_INLINE void block_logits(const PackedMatrix& vocabulary, const ScoreBlock& block, int64_t column,
                             int64_t end, float* logits) {
  if (block.bf16) {
    const PanelSums part{bf16_panel(vocabulary, column / kPanel), logits};
    const int panels = static_cast<int>(panel_count(end - column));
    if (block.row16[0] != nullptr) {
      bf16_products(&part, 1, panels, vocabulary.k, block.row16, block.rows, kScoreBlock);
    } else {
      bf16_products(&part, 1, panels, vocabulary.k, block.row, block.rows, kScoreBlock);
    }
    return;
  }
  HWY_ALIGN float product[kScoreRows * kChunkColumns];
  for (int64_t first = column; first < end; first += kChunkColumns) {
    const int panels = chunk_panels(vocabulary.n, first / kChunkColumns);
    matrix_product(vocabulary, first / kPanel, panels, block.row, block.rows, product);
    for (int64_t r = 0; r < block.rows; ++r) {
      std::copy_n(product + r * kChunkColumns, panels * kPanel, logits + r * kScoreBlock + first - column);
    }
  }
}

// sums[row] over the columns of one segment; also the logits of targets that lie in it.
void score_segment(const ScoreArgs& args, const ScoreBlock& block, int64_t column_begin, int64_t column_end,
                   RowSum* sums) {  // [rows]
  HWY_ALIGN float logits[kScoreRows * kScoreBlock];
  for (int64_t column = column_begin; column < column_end; column += kScoreBlock) {
    const int64_t end = std::min(column_end, column + kScoreBlock);
    block_logits(args.vocabulary, block, column, end, logits);
    const int64_t width = panel_count(end - column) * kPanel;
    for (int64_t r = 0; r < block.rows; ++r) {
      float* row = logits + r * kScoreBlock;
      std::fill(row + (end - column), row + width, -kInfinity);
      for (int64_t p = block.position[r]; p < block.position[r + 1]; ++p) {
        const int32_t target = args.target ? args.target[p] : -1;
        if (target >= column && target < end) args.out[p].log_probability = row[target - column];
      }
      const RowSum sum = sum_block(row, column, end - column);
      if (column == column_begin) {
        sums[r] = sum;
      } else {
        merge_sums(sums[r], sum);
      }
    }
  }
}

// log_probability holds the target's logit; now it becomes what its name says.
void score_finish(const ScoreArgs& args, const ScoreBlock& block, int64_t segments,
                  const RowSum* sums) {  // [segments, kScoreRows]
  for (int64_t r = 0; r < block.rows; ++r) {
    RowSum total = sums[r];
    for (int64_t s = 1; s < segments; ++s) merge_sums(total, sums[s * kScoreRows + r]);
    const float log_sum = static_cast<float>(logarithm(static_cast<double>(total.sum)));
    for (int64_t p = block.position[r]; p < block.position[r + 1]; ++p) {
      TokenScore& score = args.out[p];
      score.argmax = total.argmax;
      const bool wanted = args.target && args.target[p] >= 0;
      score.log_probability = wanted ? (score.log_probability - total.maximum) - log_sum : 0.0f;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(score_segment);
HWY_EXPORT(score_finish);

namespace {

int64_t row_of(const ScoreArgs& args, int64_t position) {
  return args.x_index ? args.x_index[position] : position;
}

ScoreBlock block_from(const ScoreArgs& args, int64_t begin, bool bf16) {
  const int64_t k = args.vocabulary.k;
  ScoreBlock block;
  block.bf16 = bf16;
  block.begin = block.end = begin;
  for (; block.end < args.count; ++block.end) {
    if (block.end > begin && row_of(args, block.end) == row_of(args, block.end - 1)) continue;
    if (block.rows == kScoreRows) break;
    const int64_t row = row_of(args, block.end);
    block.row[block.rows] = args.x + row * k;
    block.row16[block.rows] = args.x16 != nullptr ? args.x16 + row * row_stride_16bit(k) : nullptr;
    block.position[block.rows++] = block.end;
  }
  block.position[block.rows] = block.end;
  return block;
}

void score_block(const ScoreArgs& args, const ScoreBlock& block, const Device& device) {
  const ScoreSegments segments(args.vocabulary.n);
  RowSum sums[kScoreSegments * kScoreRows];
  parallel_for(device, segments.count, [&](int64_t s) {
    HWY_DYNAMIC_DISPATCH(score_segment)
    (args, block, segments.begin(s), segments.end(s), sums + s * kScoreRows);
  });
  HWY_DYNAMIC_DISPATCH(score_finish)(args, block, segments.count, sums);
}

void score_all(const ScoreArgs& args, const Device& device, bool bf16) {
  if (args.count >= 2 * kScoreRows * device.threads) {
    // Ranges begin at a change of row, so that no row's logits are computed twice.
    parallel_rows(device, args.count, kScoreRows, [&](int64_t begin, int64_t end) {
      const auto next_row = [&](int64_t p) {
        while (p > 0 && p < args.count && row_of(args, p) == row_of(args, p - 1)) ++p;
        return p;
      };
      const int64_t last = next_row(end);
      for (int64_t p = next_row(begin); p < last;) {
        ScoreBlock block = block_from(args, p, bf16);
        if (block.end > last) {
          block.end = last;
          while (block.position[block.rows - 1] >= last) --block.rows;
          block.position[block.rows] = last;
        }
        score_block(args, block, Device{});
        p = block.end;
      }
    });
    return;
  }
  for (int64_t p = 0; p < args.count;) {
    const ScoreBlock block = block_from(args, p, bf16);
    score_block(args, block, device);
    p = block.end;
  }
}

}  // namespace

void score_cpu(const ScoreArgs& args, const Device& device) {
  check(args);
  score_all(args, device, false);
}
void score_bf16_cpu(const ScoreArgs& args, const Device& device) {
  check(args);
  score_all(args, device, true);
}

}  // namespace eep
#endif
