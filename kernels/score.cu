// score.cu - log-softmax and arg-max at wanted positions, without the matrix of logits:
//   log_probability = z[target] - max - log(sum_v exp(z[v] - max)),   z = x W_vocab^T.
//
// The vocabulary is cut into at most kSegments segments, which depend on its size alone. A block computes a
// tile of rows against one segment, a tile of columns after the other on tensor cores (mma_tile.h); each tile
// goes through shared memory into (max, sum of exponentials, arg-max) of its rows, 64 columns at a time. A
// second kernel merges the segments of a row in ascending order. So a row's bits depend on the row and the
// vocabulary alone. FLOPs: 2 rows vocab hidden; bytes: the vocabulary once a tile of rows.
#include <algorithm>
#include <climits>
#include <string>
#include <vector>

#include "kernels/gpu/gpu_math.h"
#include "kernels/gpu/mma_tile.h"
#include "kernels/score.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int64_t kSegments = 256;     // at most
constexpr int64_t kSegmentStep = 128;  // columns of a segment are a multiple: whole tiles of either size
constexpr int kSumColumns = 64;        // whose exponentials are summed over 16 virtual lanes
constexpr int64_t kRowsAtOnce = 4096;  // distinct rows of a launch: what the scratch holds
constexpr int kFinishThreads = 128;

struct RowSum {
  float maximum;
  float sum;  // of exp(logit - maximum)
  int32_t argmax;
};
static_assert(kRowsAtOnce * kSegments * sizeof(RowSum) <= kScratchBytes);

struct ScoreBlockArgs {
  const float* x;           // [x_rows, hidden]
  const int32_t* row;       // [rows] of x
  const int32_t* position;  // [rows + 1] first wanted position of each row
  const int32_t* target;    // [count] or null
  const uint16_t* w;        // [vocab, row_stride_16bit(hidden)]
  TokenScore* out;          // [count]
  RowSum* sums;             // [segments, rows]
  int32_t rows, vocabulary, hidden;
  int32_t segment_columns, segments;
  bool vectors;  // rows of x start at 16 bytes
};

struct ScoreSource {
  const ScoreBlockArgs& args;
  int first_row, first_column;

  __device__ const float* a_row(int row) const {
    const int at = first_row + row;
    return at < args.rows ? args.x + static_cast<int64_t>(args.row[at]) * args.hidden : nullptr;
  }
  __device__ const uint16_t* b_row(int row) const {
    const int column = first_column + row;
    return column < args.vocabulary ? args.w + column * row_stride_16bit(args.hidden) : nullptr;
  }
  __device__ const uint16_t* any_b() const { return args.w; }
};

__device__ void merge_sums(RowSum& total, const RowSum& next) {
  if (next.maximum > total.maximum) {
    total.sum = fmaf(total.sum, exponential(total.maximum - next.maximum), next.sum);
    total.maximum = next.maximum;
    total.argmax = next.argmax;
  } else {
    total.sum = fmaf(next.sum, exponential(next.maximum - total.maximum), total.sum);
  }
}

// Of `count` <= kSumColumns logits, by half a warp; the same in all its lanes. The first is that of `column`.
__device__ RowSum sum_columns(const float* logits, int column, int count) {
  constexpr int kShare = kSumColumns / kVirtualLanes;
  const int lane = threadIdx.x % kVirtualLanes;
  float value[kShare], highest = -kInfinity;
#pragma unroll
  for (int i = 0; i < kShare; ++i) {
    const int at = lane + kVirtualLanes * i;
    value[i] = at < count ? logits[at] : -kInfinity;
    highest = fmaxf(value[i], highest);
  }
  highest = max_virtual_lanes(highest);
  float sum = 0;
  int lowest = INT_MAX;
#pragma unroll
  for (int i = kShare - 1; i >= 0; --i) {
    if (value[i] == highest && lane + kVirtualLanes * i < count) lowest = column + lane + kVirtualLanes * i;
  }
#pragma unroll
  for (int i = 0; i < kShare; ++i) sum += exponential(value[i] - highest);
  for (int distance = kVirtualLanes / 2; distance > 0; distance /= 2)
    lowest = min(lowest, __shfl_xor_sync(~0u, lowest, distance));
  return {highest, sum_virtual_lanes(sum), lowest == INT_MAX ? column : lowest};
}

template <class Tile>
struct ScoreTile {
  static constexpr int kPitch = Tile::kColumns + 1;  // of the logits, in floats
  static constexpr size_t kLogitsBytes = sizeof(float) * Tile::kRows * kPitch;
  static constexpr size_t kSumsAt = (std::max(kLogitsBytes, TileSize<Tile>::kSharedBytes) + 15) / 16 *
                                    16;  // after logits and stages, which alternate
  static constexpr size_t kSharedBytes = kSumsAt + sizeof(RowSum) * Tile::kRows;
};

// block: TileSize threads; grid: row tiles x segments.
template <class Tile, class Half>
__global__ void __launch_bounds__(TileSize<Tile>::kThreads)
    score_segment(const __grid_constant__ ScoreBlockArgs args) {
  using Layout = ScoreTile<Tile>;
  constexpr int kHalves = TileSize<Tile>::kThreads / kVirtualLanes;
  float* const logits = gpu::dynamic_shared<float>();  // [kRows, kPitch]
  RowSum* const sums = reinterpret_cast<RowSum*>(gpu::dynamic_shared<char>() + Layout::kSumsAt);  // [kRows]
  const int first_row = blockIdx.x * Tile::kRows;
  const int begin = blockIdx.y * args.segment_columns,
            end = min(begin + args.segment_columns, args.vocabulary);
  for (int column = begin; column < end; column += Tile::kColumns) {
    MmaProduct<Tile, Half, ScoreSource> product;
    product.multiply({args, first_row, column}, args.hidden, args.vectors);
    __syncthreads();  // the stages are read to the end and become logits
    const int row = product.warp_row() + product.lane() / 4,
              at = product.warp_column() + product.lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < product.kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < product.kColumnBlocks; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          logits[(row + 16 * i + 8 * (e / 2)) * Layout::kPitch + at + 8 * j + e % 2] = product.d[i][j][e];
      }
    }
    __syncthreads();
    for (int r = threadIdx.x / kVirtualLanes; r < Tile::kRows; r += kHalves) {
      const float* const own = logits + r * Layout::kPitch;
      for (int c = column; c < min(column + Tile::kColumns, end); c += kSumColumns) {
        const RowSum next = sum_columns(own + (c - column), c, min(kSumColumns, end - c));
        RowSum total = next;
        if (c > begin) {
          total = sums[r];
          merge_sums(total, next);
        }
        __syncwarp();  // all lanes have read the old sum
        if (threadIdx.x % kVirtualLanes == 0) sums[r] = total;
        __syncwarp();
      }
      if (args.target == nullptr || first_row + r >= args.rows) continue;
      const int last = args.position[first_row + r + 1];
      for (int p = args.position[first_row + r] + threadIdx.x % kVirtualLanes; p < last; p += kVirtualLanes) {
        const int target = args.target[p];
        if (target >= column && target < min(column + Tile::kColumns, end))
          args.out[p].log_probability = own[target - column];
      }
    }
  }
  __syncthreads();
  for (int r = threadIdx.x; r < Tile::kRows && first_row + r < args.rows; r += TileSize<Tile>::kThreads)
    args.sums[static_cast<int64_t>(blockIdx.y) * args.rows + first_row + r] = sums[r];
}

// log_probability holds the target's logit; now it becomes what its name says. A thread a row.
__global__ void __launch_bounds__(kFinishThreads) finish_rows(const __grid_constant__ ScoreBlockArgs args) {
  const int row = blockIdx.x * kFinishThreads + threadIdx.x;
  if (row >= args.rows) return;
  RowSum total = args.sums[row];
  for (int64_t segment = 1; segment < args.segments; ++segment)
    merge_sums(total, args.sums[segment * args.rows + row]);
  const float log_sum = static_cast<float>(log(static_cast<double>(total.sum)));
  for (int p = args.position[row]; p < args.position[row + 1]; ++p) {
    TokenScore& score = args.out[p];
    score.argmax = total.argmax;
    const bool wanted = args.target != nullptr && args.target[p] >= 0;
    score.log_probability = wanted ? (score.log_probability - total.maximum) - log_sum : 0.0f;
  }
}

template <class Tile>
void launch_segments(const ScoreBlockArgs& args, DType dtype, const Device& device) {
  launch(device,
         {.op = "score",
          .blocks = dim3(blocks_for(args.rows, Tile::kRows), static_cast<unsigned>(args.segments)),
          .threads = TileSize<Tile>::kThreads,
          .shared_bytes = ScoreTile<Tile>::kSharedBytes,
          .shapes = {{"rows", args.rows}, {"vocab", args.vocabulary}, {"hidden", args.hidden}}},
         dtype == DType::kBF16 ? score_segment<Tile, Bf16> : score_segment<Tile, F16>, args);
}

// Consecutive positions of one row of x share its logits.
struct WantedRows {
  std::vector<int32_t> row;       // of x
  std::vector<int32_t> position;  // first position of each row, and the end

  WantedRows(const ScoreArgs& args, int64_t& next) {
    const int64_t begin = next;
    for (; next < args.count; ++next) {
      const int32_t own = args.x_index != nullptr ? args.x_index[next] : static_cast<int32_t>(next);
      if (!row.empty() && row.back() == own) continue;
      if (static_cast<int64_t>(row.size()) == kRowsAtOnce) break;
      row.push_back(own);
      position.push_back(static_cast<int32_t>(next - begin));
    }
    position.push_back(static_cast<int32_t>(next - begin));
  }
};

void score_rows(const ScoreArgs& args, int64_t begin, const WantedRows& wanted, const Device& device) {
  const int64_t rows = static_cast<int64_t>(wanted.row.size()), vocabulary = args.vocabulary.n;
  Staging staging(device);
  ScoreBlockArgs block{};
  block.x = args.x;
  block.row = staging.put(wanted.row.data(), rows);
  block.position = staging.put(wanted.position.data(), rows + 1);
  if (args.target != nullptr) block.target = staging.put(args.target + begin, wanted.position.back());
  block.w = static_cast<const uint16_t*>(args.vocabulary.data);
  block.out = args.out + begin;
  block.rows = static_cast<int32_t>(rows);
  block.vocabulary = static_cast<int32_t>(vocabulary);
  block.hidden = static_cast<int32_t>(args.vocabulary.k);
  const int64_t columns = ceil_div(ceil_div(vocabulary, kSegments), kSegmentStep) * kSegmentStep;
  block.segment_columns = static_cast<int32_t>(columns);
  block.segments = static_cast<int32_t>(ceil_div(vocabulary, columns));
  block.sums = staging.scratch<RowSum>(block.segments * rows);
  block.vectors = rows_aligned(args.x, args.vocabulary.k, 16);
  if (rows <= kFewRows) {
    launch_segments<FewTile>(block, args.vocabulary.dtype, device);
  } else {
    launch_segments<WideTile>(block, args.vocabulary.dtype, device);
  }
  launch(device,
         {.op = "score",
          .blocks = blocks_for(rows, kFinishThreads),
          .threads = kFinishThreads,
          .shapes = {{"rows", rows}, {"segments", block.segments}}},
         finish_rows, block);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(score)(const ScoreArgs& args, const Device& device) {
  check(args);
  if (dtype_size(args.vocabulary.dtype) != 2) {
    throw Error(
        ExitCode::kData, "score",
        std::string("the vocabulary is ") + dtype_name(args.vocabulary.dtype) + " (expected BF16 or F16)");
  }
  for (int64_t next = 0; next < args.count;) {
    const int64_t begin = next;
    const gpu::WantedRows wanted(args, next);
    gpu::score_rows(args, begin, wanted, device);
  }
}

}  // namespace eep
