// attention.cu - causal grouped-query attention of runs of query rows over spans of keys and values:
//   out[q] = sum_p softmax_p(q . k_p * scale) v_p  over positions p in (position(q) - window, position(q)].
//
// One block has a tile of a run's query rows and one kv head: kVectors vectors, each a query row and one of
// the heads that share the kv head, so that keys and values are read once for all of them. Keys go by in
// blocks of 64 absolute positions, in ascending order, with the online softmax. In f32 on CUDA cores:
//   scores   one chain of fma over head_dim each
//   maximum, sum   of a block's 64 keys by one fixed tree (four keys of a thread, then 16 threads)
//   values   out = out * rescale, then one chain of fma over the block's visible keys
// Which vectors share a tile changes none of that: the bits of a row depend on its position, q, keys and
// values alone. A key that a vector must not see is left out of its chain, so not even a NaN there shows.
//
// While scores are computed the block's values arrive, while values are summed the next block's keys.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/error.h"
#include "kernels/gpu.h"
#include "kernels/half_pair.h"
#include "kernels/ptx.h"
#include "kernels/tile_schedule.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kKeys = 64;     // of a block
constexpr int kVectors = 32;  // of a tile
constexpr int kThreads = 128;
constexpr int kColumnLanes = 16;                            // threads along keys, and along head_dim
constexpr int kShare = kVectors * kColumnLanes / kThreads;  // vectors of a thread
constexpr int kKeyShare = kKeys / kColumnLanes;             // keys of a thread
constexpr int kMaxHeadDimGpu = 256;
constexpr int kProbabilityStride = kKeys + 4;
static_assert(kShare == 4 && kKeyShare == 4, "float4 loads below");

struct Run {
  int64_t query_begin, query_rows, first_position, span_begin;
  int32_t tile_begin;  // tiles of earlier runs
};

struct Args {
  const float* q;       // [rows, heads, head_dim]
  const Run* runs;      // [run_count]
  const KvSpan* spans;  // [...]
  float* out;           // [rows, heads, head_dim]
  int32_t run_count, heads, kv_heads, head_dim;
  int32_t tile_rows;  // query rows of a tile
  int64_t window;
  float scale;
  bool vectors;  // q, k and v rows start at 16 bytes
};

// Floats between rows in shared memory: an odd number of quarters, so that eight rows touch all banks.
EEP_HOST_DEVICE constexpr int shared_stride(int head_dim) {
  return static_cast<int>(ceil_div(head_dim, 4) * 4) | 4;
}

// The parts of shared memory, in floats from its start.
struct Layout {
  int stride, queries, keys, values, probabilities, end;
};
EEP_HOST_DEVICE constexpr Layout layout_of(int head_dim) {
  const int stride = shared_stride(head_dim);
  const int keys = kVectors * stride, values = keys + kKeys * stride, probabilities = values + kKeys * stride;
  return {stride, 0, keys, values, probabilities, probabilities + kVectors * kProbabilityStride};
}
constexpr size_t kTableBytes = 2 * kKeys * 2 * sizeof(const float*);  // rows of two blocks, keys and values

__device__ float max_over_lanes(float v) {  // of 16 lanes, in each of them
  for (int m = kColumnLanes / 2; m > 0; m /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, m));
  return v;
}
__device__ float sum_over_lanes(float v) {  // of 16 lanes, in each of them the same bits
  for (int m = kColumnLanes / 2; m > 0; m /= 2) v += __shfl_xor_sync(~0u, v, m);
  return v;
}

// Copies `rows` rows of head_dim floats, zeros up to the next quarter and where row_at gives null. By the
// whole block; with vectors it is over after cp_async_wait, else at once.
template <class RowAt>
__device__ void copy_rows(float* shared, int stride, int rows, int head_dim, bool vectors,
                          const RowAt& row_at) {
  const int quarters = static_cast<int>(ceil_div(head_dim, 4));
  for (int i = threadIdx.x; i < rows * quarters; i += kThreads) {
    const int row = i / quarters, column = i % quarters * 4;
    const float* const from = row_at(row);
    float* const to = shared + row * stride + column;
    if (vectors && from != nullptr) {
      cp_async_16(to, from + column);
    } else {
      for (int c = 0; c < 4; ++c) to[c] = from != nullptr && column + c < head_dim ? from[column + c] : 0.0f;
    }
  }
}

// The row of k (or v) of a position of the run, for one kv head.
struct KeyRow {
  const float* k;
  const float* v;
};
__device__ KeyRow key_row(const Args& args, const Run& run, int64_t position, int kv_head) {
  const KvSpan* span = args.spans + run.span_begin;
  while (position >= span->rows) position -= (span++)->rows;
  const int64_t at = (position * args.kv_heads + kv_head) * args.head_dim;
  return {span->k + at, span->v + at};
}

// What a thread knows of its four vectors.
struct VectorState {
  int64_t low, high;  // positions that it sees: [low, high); none if the vector does not exist
  float maximum, sum;
};

// block: kThreads; grid: (tiles of all runs, kv_heads). Thread (y, x) = (t / 16, t % 16) has vectors 4 y ..
// 4 y + 3; of the scores the keys x + 16 j; of out the columns 4 x .. 4 x + 3 of each 64.
template <int kParts>  // ceil(head_dim / 64)
__global__ void __launch_bounds__(kThreads) attend(const __grid_constant__ Args args) {
  const int x = threadIdx.x % kColumnLanes, y = threadIdx.x / kColumnLanes, kv_head = blockIdx.y;
  const int group = args.heads / args.kv_heads, head_dim = args.head_dim;
  const Layout layout = layout_of(head_dim);
  float* const shared = dynamic_shared<float>();
  float *const queries = shared, *const keys = shared + layout.keys, *const values = shared + layout.values;
  float* const probabilities = shared + layout.probabilities;
  const float** const table = reinterpret_cast<const float**>(shared + layout.end);  // [2][k, v][kKeys]

  // Which run, and which of its rows.
  int run_index = 0;
  for (int step = 1 << 30; step > 0; step /= 2) {
    const int next = run_index + step;
    if (next < args.run_count && args.runs[next].tile_begin <= static_cast<int>(blockIdx.x)) run_index = next;
  }
  const Run run = args.runs[run_index];
  const int64_t first_row = static_cast<int64_t>(blockIdx.x - run.tile_begin) * args.tile_rows;
  const int rows = static_cast<int>(min(run.query_rows - first_row, static_cast<int64_t>(args.tile_rows)));
  const int64_t first_position = run.first_position + first_row;
  const auto first_seen = [&](int64_t position) {
    return args.window > 0 ? max(static_cast<int64_t>(0), position - args.window + 1)
                           : static_cast<int64_t>(0);
  };
  const auto offset_of = [&](int vector) {
    const int64_t row = run.query_begin + first_row + vector / group;
    return (row * args.heads + kv_head * group + vector % group) * head_dim;
  };

  VectorState state[kShare];
  float out[kShare][kParts][4] = {};
  for (int i = 0; i < kShare; ++i) {
    const int vector = kShare * y + i;
    const int64_t position = first_position + vector / group;
    const bool exists = vector < rows * group;
    state[i] = {exists ? first_seen(position) : 0, exists ? position + 1 : 0, -INFINITY, 0.0f};
  }

  const int64_t begin = first_seen(first_position) / kKeys * kKeys, end = first_position + rows;
  const auto fill_table = [&](int64_t block) {  // rows of the keys of the block at position `block`
    const float** const rows_of = table + block / kKeys % 2 * 2 * kKeys;
    if (threadIdx.x >= kKeys) return;
    const int64_t position = block + threadIdx.x;
    const KeyRow row = position < end ? key_row(args, run, position, kv_head) : KeyRow{nullptr, nullptr};
    rows_of[threadIdx.x] = row.k;
    rows_of[kKeys + threadIdx.x] = row.v;
  };
  const auto copy_block = [&](int64_t block, bool value_rows) {
    const float** const rows_of = table + (block / kKeys % 2 * 2 + value_rows) * kKeys;
    copy_rows(value_rows ? values : keys, layout.stride, kKeys, head_dim, args.vectors,
              [rows_of](int key) { return rows_of[key]; });
    cp_async_commit();
  };

  // The queries; the first block's keys.
  copy_rows(queries, layout.stride, kVectors, head_dim, args.vectors,
            [&](int vector) { return vector < rows * group ? args.q + offset_of(vector) : nullptr; });
  fill_table(begin);
  __syncthreads();
  copy_block(begin, false);

  for (int64_t block = begin; block < end; block += kKeys) {
    const bool more = block + kKeys < end;
    copy_block(block, true);
    if (more) fill_table(block + kKeys);
    cp_async_wait<1>();
    __syncthreads();  // the block's keys are there

    // Whole warps without a visible key skip the arithmetic, not the barriers. A vector's visible keys of the
    // block are [low, high) from its start.
    int low[kShare], high[kShare];
    bool any = false, all = true;
    for (int i = 0; i < kShare; ++i) {
      const int64_t first = max(state[i].low - block, static_cast<int64_t>(0));
      const int64_t last = min(state[i].high - block, static_cast<int64_t>(kKeys));
      low[i] = static_cast<int>(min(first, static_cast<int64_t>(kKeys)));
      high[i] = static_cast<int>(max(last, static_cast<int64_t>(0)));
      any = any || low[i] < high[i];
      all = all && low[i] == 0 && high[i] == kKeys;
    }
    any = __any_sync(~0u, any);
    all = __all_sync(~0u, all);

    float rescale[kShare];
    if (any) {
      float score[kShare][kKeyShare] = {};
      for (int d = 0; d < head_dim; d += 4) {
        float4 k[kKeyShare];
#pragma unroll
        for (int j = 0; j < kKeyShare; ++j)
          k[j] = load_vector<float4>(keys + (x + kColumnLanes * j) * layout.stride + d);
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
          const float4 q = load_vector<float4>(queries + (kShare * y + i) * layout.stride + d);
#pragma unroll
          for (int j = 0; j < kKeyShare; ++j) {
            score[i][j] = fmaf(q.x, k[j].x, score[i][j]);
            score[i][j] = fmaf(q.y, k[j].y, score[i][j]);
            score[i][j] = fmaf(q.z, k[j].z, score[i][j]);
            score[i][j] = fmaf(q.w, k[j].w, score[i][j]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kShare; ++i) {
        float highest = -INFINITY;
#pragma unroll
        for (int j = 0; j < kKeyShare; ++j) {
          const int key = x + kColumnLanes * j;
          score[i][j] = key >= low[i] && key < high[i] ? score[i][j] * args.scale : -INFINITY;
          highest = fmaxf(highest, score[i][j]);
        }
        highest = fmaxf(max_over_lanes(highest), state[i].maximum);
        float p[kKeyShare];
#pragma unroll
        for (int j = 0; j < kKeyShare; ++j) {
          const int key = x + kColumnLanes * j;
          p[j] = key >= low[i] && key < high[i] ? expf(score[i][j] - highest) : 0.0f;
          probabilities[(kShare * y + i) * kProbabilityStride + key] = p[j];
        }
        const float sum = sum_over_lanes((p[0] + p[1]) + (p[2] + p[3]));
        rescale[i] = 1.0f;
        if (low[i] < high[i]) {
          rescale[i] = expf(state[i].maximum - highest);
          state[i].sum = fmaf(state[i].sum, rescale[i], sum);
          state[i].maximum = highest;
        }
      }
    }
    cp_async_wait<0>();
    __syncthreads();  // values and probabilities are there, the next block's table too, the keys are done
                      // with
    if (more) copy_block(block + kKeys, false);

    if (any) {
#pragma unroll
      for (int i = 0; i < kShare; ++i) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
#pragma unroll
          for (int c = 0; c < 4; ++c) out[i][part][c] *= rescale[i];
        }
      }
      const float* const p_rows = probabilities + kShare * y * kProbabilityStride;
      const int present = static_cast<int>(min(end - block, static_cast<int64_t>(kKeys)));
      for (int key = 0; key < present; ++key) {
        float p[kShare];
#pragma unroll
        for (int i = 0; i < kShare; ++i) p[i] = p_rows[i * kProbabilityStride + key];
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const int column = 4 * x + 64 * part;
          if (column >= head_dim) continue;
          const float4 v = load_vector<float4>(values + key * layout.stride + column);
#pragma unroll
          for (int i = 0; i < kShare; ++i) {
            if (!all && (key < low[i] || key >= high[i])) continue;
            float* const o = out[i][part];
            o[0] = fmaf(p[i], v.x, o[0]);
            o[1] = fmaf(p[i], v.y, o[1]);
            o[2] = fmaf(p[i], v.z, o[2]);
            o[3] = fmaf(p[i], v.w, o[3]);
          }
        }
      }
    }
    __syncthreads();  // the values are done with
  }
  cp_async_wait<0>();

  for (int i = 0; i < kShare; ++i) {
    const int vector = kShare * y + i;
    if (vector >= rows * group) continue;
    float* const to = args.out + offset_of(vector);
    for (int part = 0; part < kParts; ++part) {
      for (int c = 0; c < 4; ++c) {
        const int column = 4 * x + 64 * part + c;
        if (column < head_dim) to[column] = out[i][part][c] / state[i].sum;
      }
    }
  }
}

bool rows_start_at_16(const float* rows) { return reinterpret_cast<uintptr_t>(rows) % 16 == 0; }

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(attention)(const AttentionArgs& args, const Device& device) {
  const int64_t group = args.kv_heads > 0 ? args.heads / args.kv_heads : 0;
  if (args.head_dim > gpu::kMaxHeadDimGpu || group > gpu::kVectors || args.kv_heads > 65535) {
    throw Error(ExitCode::kData, "attention",
                "head_dim or heads per kv head too large for the GPU (expected at most " +
                    std::to_string(gpu::kMaxHeadDimGpu) + " and " + std::to_string(gpu::kVectors) + ", got " +
                    std::to_string(args.head_dim) + " and " + std::to_string(group) + ")");
  }
  const int64_t tile_rows = gpu::kVectors / group;
  std::vector<gpu::Run> runs;
  int64_t tiles = 0, span_end = 0;
  bool vectors = args.head_dim % 4 == 0 && gpu::rows_start_at_16(args.q);
  for (int64_t i = 0; i < args.run_count; ++i) {
    const AttentionRun& run = args.runs[i];
    if (run.query_rows == 0) continue;
    runs.push_back(
        {run.query_begin, run.query_rows, run.first_position, run.span_begin, static_cast<int32_t>(tiles)});
    tiles += ceil_div(run.query_rows, tile_rows);
    span_end = std::max(span_end, run.span_begin + run.span_count);
    for (int64_t s = run.span_begin; s < run.span_begin + run.span_count; ++s) {
      vectors = vectors && gpu::rows_start_at_16(args.spans[s].k) && gpu::rows_start_at_16(args.spans[s].v);
    }
  }
  if (tiles == 0) return;

  gpu::Staging staging(device);
  gpu::Args kernel_args{};
  kernel_args.q = args.q;
  kernel_args.runs = staging.put(runs.data(), static_cast<int64_t>(runs.size()));
  kernel_args.spans = staging.put(args.spans, span_end);
  kernel_args.out = args.out;
  kernel_args.run_count = static_cast<int32_t>(runs.size());
  kernel_args.heads = static_cast<int32_t>(args.heads);
  kernel_args.kv_heads = static_cast<int32_t>(args.kv_heads);
  kernel_args.head_dim = static_cast<int32_t>(args.head_dim);
  kernel_args.tile_rows = static_cast<int32_t>(tile_rows);
  kernel_args.window = args.window;
  kernel_args.scale = args.scale;
  kernel_args.vectors = vectors;
  const size_t bytes =
      static_cast<size_t>(gpu::layout_of(kernel_args.head_dim).end) * sizeof(float) + gpu::kTableBytes;
  auto kernel = gpu::attend<4>;
  if (args.head_dim <= 128) kernel = gpu::attend<2>;
  if (args.head_dim <= 64) kernel = gpu::attend<1>;
  gpu::launch(device,
              {"attention",
               dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(args.kv_heads)),
               gpu::kThreads,
               bytes,
               {{"runs", args.run_count}, {"heads", args.heads}, {"head_dim", args.head_dim}}},
              kernel, kernel_args);
}

}  // namespace eep
