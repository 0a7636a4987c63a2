// attention.cu - causal grouped-query attention of runs of query rows over spans of keys and values:
//   out[q] = sum_p softmax_p(q . k_p * scale) v_p  over positions p in (position(q) - window, position(q)].
//
// A block has a tile of a run's query rows and one kv head: its vectors are the query rows times the heads
// that share the kv head, so that keys and values are read once for all of them. Keys go by in blocks of 64
// absolute positions, ascending, with the online softmax. On tensor cores, but nearly as exact as f32: each
// f32 value is split into two bf16 ones, hi + lo, and a product is lo hi + hi lo + hi hi, off by 3 * 2^-16 of
// its magnitude. Sums, softmax and rescaling are f32.
//   scores       one chain of mma over head_dim
//   sum          of a block's 64 probabilities: four groups of 16 keys in a lane, then four lanes; a fixed
//   tree values       out * rescale, then one chain of mma over the block's keys
// Two tiles: wide, 64 vectors, 16 for each warp, and few, up to 16 vectors, where the four warps share the
// keys of the scores and the columns of the values. Chains and trees are the same, so the bits of a row
// depend on its position, q, keys and values alone.
//
// A key that a vector must not see has probability 0. As 0 * infinity is not 0, values that are not finite
// lie as 0 in shared memory, and a vector that sees such a key becomes NaN.
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

constexpr int kKeys = 64;  // of a block of keys
constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kFewVectors = 16;            // of a few tile
constexpr int kWideVectors = 16 * kWarps;  // of a wide tile
constexpr int kMaxHeadDimGpu = 256;
constexpr int kMaxWideHeadDim = 128;  // beyond, 16 rows of out do not fit a warp's registers: few tiles only

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
  bool vectors;  // rows of q, k and v start at 16 bytes
};

// The row of k and v of a position of the run, for one kv head.
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

// Rows of kDim bf16, hi or lo, in shared memory; ldmatrix and the stores touch all banks.
template <int kDim>
__device__ int place(int row, int piece) {
  return row * kDim + 8 * (piece ^ row % 8);
}

// Shared memory of a block. What exchange and frames are for only few tiles use.
template <bool kFew, int kDim>
struct Shared {
  static constexpr int kVectors = kFew ? kFewVectors : kWideVectors;
  uint16_t q[2][kVectors * kDim];  // hi, lo
  uint16_t k[2][kKeys * kDim];
  uint16_t v[2][kKeys * kDim];
  const float* rows[2][2][kKeys];     // of two blocks: k, v
  unsigned bad[2][2];                 // of two blocks: keys whose values are not all finite
  float maxima[kWarps][kFewVectors];  // of a warp's 16 keys
  float sums[kWarps][2][32];          // of a lane's keys of the warp's 16
  uint4 fragments[kWarps][2][32];     // probabilities of the warp's 16 keys as fragment A: hi, lo
};

__device__ bool finite(float v) { return (__float_as_uint(v) & 0x7f800000u) != 0x7f800000u; }

// hi + lo = the values, but for 2^-16 of them; words of two columns.
struct Split {
  uint32_t hi, lo;
};
__device__ Split split(float a, float b) {
  const uint32_t hi = Bf16::pack(a, b);
  return {hi, Bf16::pack(a - Bf16::low(hi), b - Bf16::high(hi))};
}

// Splits `rows` rows of head_dim floats into to[0], to[1], with zeros up to kDim and for rows that row_at has
// not. Values that are not finite become 0 and are marked in `bad`, if that is given. By the whole block.
template <int kDim, class RowAt>
__device__ void split_rows(uint16_t* hi, uint16_t* lo, int rows, const Args& args, unsigned* bad,
                           const RowAt& row_at) {
  constexpr int kPieces = kDim / 8;
#pragma unroll 4
  for (int i = threadIdx.x; i < rows * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    float values[8];
    load_eight(row_at(row), 8 * piece, args.head_dim, args.vectors, values);
    if (bad != nullptr) {
      bool good = true;
#pragma unroll
      for (float& value : values) {
        good = good && finite(value);
        value = finite(value) ? value : 0.0f;
      }
      if (!good) atomicOr(&bad[row / 32], 1u << row % 32);
    }
    const Split a = split(values[0], values[1]), b = split(values[2], values[3]);
    const Split c = split(values[4], values[5]), d = split(values[6], values[7]);
    st_shared_v4(hi + place<kDim>(row, piece), {a.hi, b.hi, c.hi, d.hi});
    st_shared_v4(lo + place<kDim>(row, piece), {a.lo, b.lo, c.lo, d.lo});
  }
}

// d += a b with split operands, the small products first.
__device__ void multiply_split(float (&d)[4], const uint32_t (&a)[2][4], const uint32_t (&b_hi)[2],
                               const uint32_t (&b_lo)[2]) {
  mma_bf16(d, a[1], b_hi);
  mma_bf16(d, a[0], b_lo);
  mma_bf16(d, a[0], b_hi);
}

__device__ float max_over_quad(float v) {  // of 4 lanes, in each of them
  v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
  return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}
__device__ float sum_over_quad(float v) {  // of 4 lanes, in each of them the same bits
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}

// One of the two rows, g and g + 8, of the warp's 16 that a lane has a part of.
struct RowState {
  int64_t begin, end;  // positions that it sees; none if the row does not exist
  float maximum, sum;
};

// block: kThreads; grid: (tiles of all runs, kv_heads). Each warp holds, of its 16 rows, the scores of
// kKeyGroups times 16 keys and kColumnBlocks times 8 columns of out.
template <bool kFew, int kDim>  // kDim: head_dim, up to 64, 128 or 256
__global__ void __launch_bounds__(kThreads, 2) attend(const __grid_constant__ Args args) {
  constexpr int kKeyGroups = kFew ? 1 : 4;
  constexpr int kColumnBlocks = kDim / 8 / (kFew ? kWarps : 1);
  Shared<kFew, kDim>& shared = *dynamic_shared<Shared<kFew, kDim>>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.y;
  const int group = args.heads / args.kv_heads, head_dim = args.head_dim;
  const int warp_row = kFew ? 0 : 16 * warp;  // first of the warp's vectors
  const int first_group = kFew ? warp : 0;    // first of the warp's groups of 16 keys
  const int first_column = kFew ? warp * kColumnBlocks * 8 : 0;

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

  RowState state[2];
  for (int h = 0; h < 2; ++h) {
    const int vector = warp_row + lane / 4 + 8 * h;
    const int64_t position = first_position + vector / group;
    const bool exists = vector < rows * group;
    state[h] = {exists ? first_seen(position) : 0, exists ? position + 1 : 0, -INFINITY, 0.0f};
  }
  float out[kColumnBlocks][4] = {};

  const int64_t begin = first_seen(first_position) / kKeys * kKeys, end = first_position + rows;
  const auto fill_rows = [&](int64_t block) {
    if (threadIdx.x >= kKeys) return;
    const int64_t position = block + threadIdx.x;
    const KeyRow row = position < end ? key_row(args, run, position, kv_head) : KeyRow{nullptr, nullptr};
    shared.rows[block / kKeys % 2][0][threadIdx.x] = row.k;
    shared.rows[block / kKeys % 2][1][threadIdx.x] = row.v;
  };
  split_rows<kDim>(shared.q[0], shared.q[1], shared.kVectors, args, nullptr,
                   [&](int vector) { return vector < rows * group ? args.q + offset_of(vector) : nullptr; });
  fill_rows(begin);
  if (threadIdx.x < 4) shared.bad[threadIdx.x / 2][threadIdx.x % 2] = 0;

  for (int64_t block = begin; block < end; block += kKeys) {
    const int parity = static_cast<int>(block / kKeys % 2);
    __syncthreads();  // the previous block's keys and values are done with, this one's rows are known
    const float* const* const k_rows = shared.rows[parity][0];
    const float* const* const v_rows = shared.rows[parity][1];
    split_rows<kDim>(shared.k[0], shared.k[1], kKeys, args, nullptr,
                     [k_rows](int key) { return k_rows[key]; });
    split_rows<kDim>(shared.v[0], shared.v[1], kKeys, args, shared.bad[parity],
                     [v_rows](int key) { return v_rows[key]; });
    __syncthreads();
    if (block + kKeys < end) fill_rows(block + kKeys);
    if (threadIdx.x < 2) shared.bad[1 - parity][threadIdx.x] = 0;
    const uint64_t bad = shared.bad[parity][0] | static_cast<uint64_t>(shared.bad[parity][1]) << 32;

    // The keys of the block that each row sees: [low, high). A warp whose rows see none has nothing to do; in
    // a few tile, where barriers follow, all warps have the same rows.
    int low[2], high[2];
    for (int h = 0; h < 2; ++h) {
      low[h] = static_cast<int>(min(max(state[h].begin - block, static_cast<int64_t>(0)), int64_t{kKeys}));
      high[h] = static_cast<int>(max(min(state[h].end - block, int64_t{kKeys}), static_cast<int64_t>(0)));
    }
    // Of the block's groups of 16 keys the warp takes those between the lowest and the highest key that a row
    // of it sees; the others would add zeros.
    const bool any[2] = {low[0] < high[0], low[1] < high[1]};
    const int lowest = __reduce_min_sync(~0u, min(any[0] ? low[0] : kKeys, any[1] ? low[1] : kKeys));
    const int past = __reduce_max_sync(~0u, max(any[0] ? high[0] : 0, any[1] ? high[1] : 0));
    if (lowest >= past) continue;
    const auto taken = [&](int key_group) { return 16 * key_group < past && 16 * key_group + 16 > lowest; };
    const auto sees = [&](int h, int key) { return key >= low[h] && key < high[h]; };

    // scores [16 rows, 16 kKeyGroups keys]
    float score[2 * kKeyGroups][4] = {};
    for (int d = 0; d < head_dim; d += 16) {
      const int piece = d / 8;
      uint32_t q[2][4];
      for (int p = 0; p < 2; ++p) {
        ldmatrix_x4(q[p], shared.q[p] + place<kDim>(warp_row + lane % 16, piece + lane / 16));
      }
#pragma unroll
      for (int n = 0; n < kKeyGroups; ++n) {
        if (!taken(first_group + n)) continue;
        const int key = 16 * (first_group + n) + lane % 8 + lane / 16 * 8;
        uint32_t hi[4], lo[4];
        ldmatrix_x4(hi, shared.k[0] + place<kDim>(key, piece + lane / 8 % 2));
        ldmatrix_x4(lo, shared.k[1] + place<kDim>(key, piece + lane / 8 % 2));
        multiply_split(score[2 * n], q, {hi[0], hi[1]}, {lo[0], lo[1]});
        multiply_split(score[2 * n + 1], q, {hi[2], hi[3]}, {lo[2], lo[3]});
      }
    }

    // maximum of each row
    float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < 2 * kKeyGroups; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = 16 * first_group + 8 * n + lane % 4 * 2 + e % 2;
        score[n][e] = sees(e / 2, key) ? score[n][e] * args.scale : -INFINITY;
        highest[e / 2] = fmaxf(highest[e / 2], score[n][e]);
      }
    }
    for (int h = 0; h < 2; ++h) highest[h] = max_over_quad(highest[h]);
    if constexpr (kFew) {
      if (lane % 4 == 0) {
        for (int h = 0; h < 2; ++h) shared.maxima[warp][lane / 4 + 8 * h] = highest[h];
      }
      __syncthreads();
      for (int h = 0; h < 2; ++h) {
        for (int w = 0; w < kWarps; ++w) highest[h] = fmaxf(highest[h], shared.maxima[w][lane / 4 + 8 * h]);
      }
    }
    for (int h = 0; h < 2; ++h) highest[h] = fmaxf(highest[h], state[h].maximum);

    // probabilities, and their sums over this lane's four keys of each group
    float sum[2][kWarps];
    uint32_t probability[kKeyGroups][2][4];  // as fragments A of 16 keys: hi, lo
#pragma unroll
    for (int n = 0; n < kKeyGroups; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float p[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = 16 * (first_group + n) + 8 * (i / 2) + lane % 4 * 2 + i % 2;
          p[i] = sees(h, key) ? expf(score[2 * n + i / 2][2 * h + i % 2] - highest[h]) : 0.0f;
        }
        sum[h][n] = (p[0] + p[1]) + (p[2] + p[3]);
        const Split left = split(p[0], p[1]), right = split(p[2], p[3]);
        probability[n][0][h] = left.hi, probability[n][1][h] = left.lo;
        probability[n][0][h + 2] = right.hi, probability[n][1][h + 2] = right.lo;
      }
    }
    if constexpr (kFew) {
      for (int h = 0; h < 2; ++h) shared.sums[warp][h][lane] = sum[h][0];
      for (int part = 0; part < 2; ++part) {
        const uint32_t(&p)[4] = probability[0][part];
        shared.fragments[warp][part][lane] = uint4{p[0], p[1], p[2], p[3]};
      }
      __syncthreads();
      for (int h = 0; h < 2; ++h) {
        for (int w = 0; w < kWarps; ++w) sum[h][w] = shared.sums[w][h][lane];
      }
    }
    float rescale[2];
    for (int h = 0; h < 2; ++h) {
      const float total = sum_over_quad((sum[h][0] + sum[h][1]) + (sum[h][2] + sum[h][3]));
      rescale[h] = any[h] ? expf(state[h].maximum - highest[h]) : 1.0f;
      if (any[h]) state[h].sum = fmaf(state[h].sum, rescale[h], total);
      if (any[h]) state[h].maximum = highest[h];
      if (any[h] && bad != 0 && (bad >> low[h]) << (kKeys - (high[h] - low[h])) != 0) state[h].sum = NAN;
    }

    // values
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) out[n][e] *= rescale[e / 2];
    }
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      if (!taken(step)) continue;
      uint32_t p[2][4];
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        if constexpr (kFew) {
          const uint4 words = shared.fragments[step][part][lane];
          p[part][0] = words.x, p[part][1] = words.y, p[part][2] = words.z, p[part][3] = words.w;
        } else {
          for (int i = 0; i < 4; ++i) p[part][i] = probability[step][part][i];
        }
      }
#pragma unroll
      for (int n = 0; n < kColumnBlocks; n += 2) {
        if (first_column + 8 * n >= head_dim) continue;
        const int at = place<kDim>(16 * step + lane % 16, first_column / 8 + n + lane / 16);
        uint32_t hi[4], lo[4];
        ldmatrix_x4_trans(hi, shared.v[0] + at);
        ldmatrix_x4_trans(lo, shared.v[1] + at);
        multiply_split(out[n], p, {hi[0], hi[1]}, {lo[0], lo[1]});
        multiply_split(out[n + 1], p, {hi[2], hi[3]}, {lo[2], lo[3]});
      }
    }
  }

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int vector = warp_row + lane / 4 + 8 * h;
    if (vector >= rows * group) continue;
    float* const to = args.out + offset_of(vector);
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = first_column + 8 * n + lane % 4 * 2 + e;
        // + 0 turns -0, which a zero that was added may or may not have turned already, into 0.
        if (column < head_dim) to[column] = out[n][2 * h + e] / state[h].sum + 0.0f;
      }
    }
  }
}

// ---- launcher ---------------------------------------------------------------------------------------------

// Runs of one kind of tile, and their tiles.
struct RunList {
  int64_t vectors;  // of a tile
  std::vector<Run> runs;
  int64_t tiles = 0;
};

template <bool kFew, int kDim>
void launch_attend(const Device& device, const Args& args, int64_t tiles) {
  launch(device,
         {"attention",
          dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(args.kv_heads)),
          kThreads,
          sizeof(Shared<kFew, kDim>),
          {{"runs", args.run_count}, {"heads", args.heads}, {"head_dim", args.head_dim}}},
         attend<kFew, kDim>, args);
}

template <bool kFew>
void launch_list(const Device& device, Staging& staging, const RunList& list, Args args) {
  if (list.tiles == 0) return;
  args.runs = staging.put(list.runs.data(), static_cast<int64_t>(list.runs.size()));
  args.run_count = static_cast<int32_t>(list.runs.size());
  args.tile_rows = static_cast<int32_t>(list.vectors / (args.heads / args.kv_heads));
  if (args.head_dim <= 64) return launch_attend<kFew, 64>(device, args, list.tiles);
  if (args.head_dim <= kMaxWideHeadDim) return launch_attend<kFew, 128>(device, args, list.tiles);
  launch_attend<true, kMaxHeadDimGpu>(device, args, list.tiles);
}

bool starts_at_16(const float* rows) { return reinterpret_cast<uintptr_t>(rows) % 16 == 0; }

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(attention)(const AttentionArgs& args, const Device& device) {
  const int64_t group = args.kv_heads > 0 ? args.heads / args.kv_heads : 0;
  const int64_t most = args.head_dim <= gpu::kMaxWideHeadDim ? gpu::kWideVectors : gpu::kFewVectors;
  if (args.head_dim > gpu::kMaxHeadDimGpu || group > most || args.kv_heads > 65535) {
    throw Error(ExitCode::kData, "attention",
                "head_dim or heads per kv head too large for the GPU (expected at most " +
                    std::to_string(gpu::kMaxHeadDimGpu) + " and " + std::to_string(most) + ", got " +
                    std::to_string(args.head_dim) + " and " + std::to_string(group) + ")");
  }
  gpu::RunList few{gpu::kFewVectors, {}}, wide{gpu::kWideVectors, {}};
  int64_t span_end = 0;
  bool vectors = args.head_dim % 4 == 0 && gpu::starts_at_16(args.q);
  for (int64_t i = 0; i < args.run_count; ++i) {
    const AttentionRun& run = args.runs[i];
    if (run.query_rows == 0) continue;
    const bool is_few = run.query_rows * group <= gpu::kFewVectors || args.head_dim > gpu::kMaxWideHeadDim;
    gpu::RunList& list = is_few ? few : wide;
    list.runs.push_back({run.query_begin, run.query_rows, run.first_position, run.span_begin,
                         static_cast<int32_t>(list.tiles)});
    list.tiles += ceil_div(run.query_rows, list.vectors / group);
    span_end = std::max(span_end, run.span_begin + run.span_count);
    for (int64_t s = run.span_begin; s < run.span_begin + run.span_count; ++s) {
      vectors = vectors && gpu::starts_at_16(args.spans[s].k) && gpu::starts_at_16(args.spans[s].v);
    }
  }

  gpu::Staging staging(device);
  gpu::Args kernel_args{};
  kernel_args.q = args.q;
  kernel_args.spans = staging.put(args.spans, span_end);
  kernel_args.out = args.out;
  kernel_args.heads = static_cast<int32_t>(args.heads);
  kernel_args.kv_heads = static_cast<int32_t>(args.kv_heads);
  kernel_args.head_dim = static_cast<int32_t>(args.head_dim);
  kernel_args.window = args.window;
  kernel_args.scale = args.scale;
  kernel_args.vectors = vectors;
  gpu::launch_list<true>(device, staging, few, kernel_args);
  gpu::launch_list<false>(device, staging, wide, kernel_args);
}

}  // namespace eep
