// attention.cu - causal grouped-query attention of runs of query rows over spans of keys and values:
//   out[q] = sum_p softmax_p(q . k_p * scale) v_p  over positions p in (position(q) - window, position(q)].
//
// A block has a tile of a run's query rows and one kv head: its vectors are the query rows times the heads
// that share the kv head, so that keys and values are read once for all of them. Keys go by in blocks of 64
// absolute positions, ascending, with the online softmax. On tensor cores, but nearly as exact as f32: each
// f32 value is split into two bf16 ones, hi + lo, and a product is lo hi + hi lo + hi hi, off by 3 * 2^-16 of
// its magnitude. Sums, softmax and rescaling are f32.
//   scores  one chain of mma over head_dim
//   sum     of a block's 64 probabilities: four groups of 16 keys in a lane, then four lanes; a fixed tree
//   values  out * rescale, then one chain of mma over the block's keys
// Two tiles. Wide, 32 vectors for each of 8 or 4 warps: bound by the tensor cores. Keys and values are copied
// as f32, by cp.async while the products before them run, and split once for all warps. Few, up to 16
// vectors: bound by memory. The four warps share the keys of the scores and the columns of the values; each
// copies what it alone reads, and splits it in registers. Chains and trees are the same, so the bits of a row
// depend on its position, q, keys and values alone.
//
// A key that a vector must not see has probability 0. As 0 * infinity is not 0, values that are not finite
// are multiplied as 0, and a vector that sees such a key becomes NaN.
#include <algorithm>
#include <string>
#include <vector>

#include "kernels/attention_tile.h"
#include "kernels/attention_wide.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/gpu/mma_tile.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kMaxHeadDimGpu = 256;
constexpr int kMaxWideHeadDim = 128;  // beyond, 32 rows of out do not fit a warp's registers: few tiles only
constexpr int kMaxGroup = 64;         // heads for a kv head, with wide tiles

// ---- few tile ---------------------------------------------------------------------------------------------

constexpr int kFewWarps = 4;
constexpr int kFewVectors = 16;

template <int kDim>
struct FewShared {
  float k[kKeys * kDim];                 // a warp copies and reads 16 rows
  float v[kKeys * kDim];                 // a warp copies and reads a quarter of the columns
  KeyRows rows[2];                       // of two blocks
  unsigned bad[2][2];                    // of two blocks: keys whose values are not all finite
  float maxima[kFewWarps][kFewVectors];  // of a warp's 16 keys
  float sums[kFewWarps][2][32];          // of a lane's keys of the warp's 16
  uint4 fragments[kFewWarps][2][32];     // probabilities of the warp's 16 keys as fragment A: hi, lo
};

// Where column `column` of a row of k or v lies, so that the lanes of a fragment touch all banks: they have
// 8 columns of four rows next to each other in k, two apart in v.
template <int kDim>
__device__ int key_place(int row, int column) {
  return row * kDim + (column ^ row % 4 * 8);
}
template <int kDim>
__device__ int value_place(int row, int column) {
  return row * kDim + (column ^ row / 2 % 4 * 8);
}

// block: 128 threads; grid: (tiles of all runs, kv_heads).
template <int kDim>  // head_dim, up to 64, 128 or 256
__global__ void __launch_bounds__(32 * kFewWarps, kDim > 128 ? 1 : 3)
    attend_few(const __grid_constant__ Args args) {
  constexpr int kColumns = kDim / kFewWarps;  // of the values, of a warp
  FewShared<kDim>& shared = *dynamic_shared<FewShared<kDim>>();
  const Tile tile = find_tile(args);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_key = 16 * warp, first_column = kColumns * warp;

  const auto copy_keys = [&](const KeyRows& rows) {
    constexpr int kQuarters = kDim / 4;  // pieces of four floats
    const auto key = [&](int i) { return first_key + (lane + 32 * i) / kQuarters; };
    const auto column = [&](int i) { return (lane + 32 * i) % kQuarters * 4; };
    copy_fours<16 * kQuarters / 32>(
        args, [&](int i) { return rows.k[key(i)]; }, column,
        [&](int i) { return shared.k + key_place<kDim>(key(i), column(i)); });
  };
  const auto copy_values = [&](const KeyRows& rows) {
    constexpr int kQuarters = kColumns / 4;
    const auto key = [&](int i) { return (lane + 32 * i) / kQuarters; };
    const auto column = [&](int i) { return first_column + (lane + 32 * i) % kQuarters * 4; };
    copy_fours<kKeys * kQuarters / 32>(
        args, [&](int i) { return rows.v[key(i)]; }, column,
        [&](int i) { return shared.v + value_place<kDim>(key(i), column(i)); });
  };

  fill_rows(args, tile, tile.begin, shared.rows[0]);
  fill_rows(args, tile, tile.begin + kKeys, shared.rows[1]);
  if (threadIdx.x < 4) shared.bad[threadIdx.x / 2][threadIdx.x % 2] = 0;
  __syncthreads();
  copy_keys(shared.rows[0]);
  copy_values(shared.rows[0]);

  // Vectors beyond the tile's are zeros, do as its last one does, and are not stored.
  uint32_t q[kDim / 16][2][4];  // fragments A: hi, lo
  int row[2];                   // of the tile, of this lane's vectors
  RowState state[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int vector = lane / 4 + 8 * h;
    row[h] = min(vector, tile.vectors - 1) / tile.group;
    state[h] = start_of(args, tile, vector);
    const float* const from = args.q + tile.offset_of(args, min(vector, tile.vectors - 1));
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) {
      const int column = 8 * i + lane % 4 * 2;
      float2 values{};
      if (vector < tile.vectors) {
        if (args.vectors) {
          if (column < args.head_dim) values = load_vector<float2>(from + column);
        } else {
          values.x = column < args.head_dim ? from[column] : 0.0f;
          values.y = column + 1 < args.head_dim ? from[column + 1] : 0.0f;
        }
      }
      const Split parts = split(values.x, values.y);
      q[i / 2][0][h + i % 2 * 2] = parts.hi;
      q[i / 2][1][h + i % 2 * 2] = parts.lo;
    }
  }
  float out[kColumns / 8][4] = {};

  const auto mark_rows = [&](const unsigned(&bad_keys)[2], int64_t block) {
    const uint64_t bad = bad_keys[0] | static_cast<uint64_t>(bad_keys[1]) << 32;
    if (bad == 0) return;
    const View view = view_of(args, tile, block);
    for (int h = 0; h < 2; ++h) {
      if (sees_bad(bad, view.low(row[h]), view.high(row[h]))) state[h].sum = NAN;
    }
  };

  int parity = 0;
  for (int64_t block = tile.begin; block < tile.end; block += kKeys, parity = 1 - parity) {
    const bool more = block + kKeys < tile.end;
    const View view = view_of(args, tile, block);
    const Seen seen{{view.low(row[0]), view.low(row[1])}, {view.high(row[0]), view.high(row[1])}};

    cp_async_wait<1>();  // the keys; the values may be under way
    __syncwarp();
    float score[2][4] = {};
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      uint32_t hi[2][2], lo[2][2];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int key = first_key + 8 * n + lane / 4, column = 16 * d + 8 * r + lane % 4 * 2;
          const float2 keys = load_vector<float2>(shared.k + key_place<kDim>(key, column));
          const Split parts = split(keys.x, keys.y);
          hi[n][r] = parts.hi, lo[n][r] = parts.lo;
        }
      }
#pragma unroll
      for (int part = 0; part < 3; ++part) {
#pragma unroll
        for (int n = 0; n < 2; ++n) multiply_part(part, score[n], q[d], hi[n], lo[n]);
      }
    }
    float highest[2];
    scale_scores(score, args.scale);
    hide_scores(score, first_key, seen);
    find_highest(score, highest);
    if (lane % 4 == 0) {
      for (int h = 0; h < 2; ++h) shared.maxima[warp][lane / 4 + 8 * h] = highest[h];
    }
    __syncwarp();  // the warp's keys are done with
    if (more) {
      copy_keys(shared.rows[1 - parity]);
    } else {
      cp_async_commit();
    }
    __syncthreads();  // the maxima are known, the previous block's values and fragments are done with
    fill_rows(args, tile, block + 2 * kKeys, shared.rows[parity]);
    if (block > tile.begin) mark_rows(shared.bad[1 - parity], block - kKeys);

    uint32_t probability[2][4];
    float part[2];
    for (int h = 0; h < 2; ++h) {
      for (int w = 0; w < kFewWarps; ++w) highest[h] = fmaxf(highest[h], shared.maxima[w][lane / 4 + 8 * h]);
      highest[h] = seen.any(h) ? fmaxf(highest[h], state[h].maximum) : 0.0f;
    }
    exponentiate(score[0], score[1], highest, probability, part);
    for (int h = 0; h < 2; ++h) shared.sums[warp][h][lane] = part[h];
    for (int p = 0; p < 2; ++p) {
      const uint32_t(&words)[4] = probability[p];
      st_shared_v4(&shared.fragments[warp][p][lane], uint4{words[0], words[1], words[2], words[3]});
    }
    __syncthreads();  // sums and fragments are there
    if (threadIdx.x < 2) shared.bad[1 - parity][threadIdx.x] = 0;
    float rescale[2];
    for (int h = 0; h < 2; ++h) {
      float sum[kFewWarps];
      for (int w = 0; w < kFewWarps; ++w) sum[w] = shared.sums[w][h][lane];
      rescale[h] = update(state[h], seen.any(h), highest[h], sum);
    }
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) out[n][e] *= rescale[e / 2];
    }

    cp_async_wait<1>();  // the values; the next keys may be under way
    __syncwarp();
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      float2 values[kColumns / 8][2];  // of two keys
      float zero = 0.0f;               // or NaN, if a value is not finite
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int key = 16 * step + 8 * r + lane % 4 * 2, column = first_column + 8 * n + lane / 4;
          float2& pair = values[n][r];
          pair.x = shared.v[value_place<kDim>(key, column)];
          pair.y = shared.v[value_place<kDim>(key + 1, column)];
          zero = fmaf(pair.x, 0.0f, fmaf(pair.y, 0.0f, zero));
        }
      }
      if (zero != 0.0f) {
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const int key = 16 * step + 8 * r + lane % 4 * 2;
            float2& pair = values[n][r];
            if (!finite(pair.x)) atomicOr(&shared.bad[parity][key / 32], 1u << key % 32);
            if (!finite(pair.y)) atomicOr(&shared.bad[parity][key / 32], 2u << key % 32);
            pair = {finite(pair.x) ? pair.x : 0.0f, finite(pair.y) ? pair.y : 0.0f};
          }
        }
      }
      __syncwarp();
      uint32_t hi[kColumns / 8][2], lo[kColumns / 8][2], p[2][4];
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const Split parts = split(values[n][r].x, values[n][r].y);
          hi[n][r] = parts.hi, lo[n][r] = parts.lo;
        }
      }
#pragma unroll
      for (int part_of_p = 0; part_of_p < 2; ++part_of_p) {
        const uint4 words = load_vector<uint4>(&shared.fragments[step][part_of_p][lane]);
        p[part_of_p][0] = words.x, p[part_of_p][1] = words.y;
        p[part_of_p][2] = words.z, p[part_of_p][3] = words.w;
      }
#pragma unroll
      for (int product = 0; product < 3; ++product) {
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) multiply_part(product, out[n], p, hi[n], lo[n]);
      }
    }
    __syncwarp();  // the warp's values are done with
    if (more) {
      copy_values(shared.rows[1 - parity]);
    } else {
      cp_async_commit();
    }
  }
  cp_async_wait<0>();
  __syncthreads();  // the last block's values have been looked at
  mark_rows(shared.bad[1 - parity], (tile.end - 1) / kKeys * kKeys);

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int vector = lane / 4 + 8 * h;
    if (vector >= tile.vectors) continue;
    float* const to = args.out + tile.offset_of(args, vector);
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      store_pair(to, first_column + 8 * n + lane % 4 * 2, args.head_dim, args.out_pairs,
                 out[n][2 * h] / state[h].sum + 0.0f, out[n][2 * h + 1] / state[h].sum + 0.0f);
    }
  }
}

// ---- launcher ---------------------------------------------------------------------------------------------

// Runs of one kind of tile.
using RunList = std::vector<Run>;

bool starts_at_16(const float* rows) { return reinterpret_cast<uintptr_t>(rows) % 16 == 0; }

// Shared memory that a block may have.
size_t most_shared([[maybe_unused]] const Device& device) {
#ifdef __CUDACC__
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index), "device");
  return static_cast<size_t>(bytes);
#else
  return simt::kMaxSharedBytes;
#endif
}

// Tiles of `vectors` vectors.
int64_t divide(RunList& runs, int64_t vectors, Args& args) {
  args.tile_rows = static_cast<int32_t>(vectors / (args.heads / args.kv_heads));
  int64_t tiles = 0;
  for (Run& run : runs) {
    run.tile_begin = static_cast<int32_t>(tiles);
    tiles += ceil_div(run.query_rows, args.tile_rows);
  }
  return tiles;
}

template <class Shared>
void launch_tiles(const Device& device, Staging& staging, void (*kernel)(Args), int warps,
                  const RunList& runs, int64_t tiles, Args args) {
  args.runs = staging.put(runs.data(), static_cast<int64_t>(runs.size()));
  args.run_count = static_cast<int32_t>(runs.size());
  launch(device,
         {"attention",
          dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(args.kv_heads)),
          dim3(static_cast<unsigned>(32 * warps)),
          sizeof(Shared),
          {{"runs", args.run_count}, {"heads", args.heads}, {"head_dim", args.head_dim}}},
         kernel, args);
}

void launch_few(const Device& device, Staging& staging, RunList& runs, Args args) {
  if (runs.empty()) return;
  const int64_t tiles = divide(runs, kFewVectors, args);
  const auto launch_dim = [&]<int kDim>() {
    launch_tiles<FewShared<kDim>>(device, staging, attend_few<kDim>, kFewWarps, runs, tiles, args);
  };
  if (args.head_dim <= 64) return launch_dim.template operator()<64>();
  if (args.head_dim <= 128) return launch_dim.template operator()<128>();
  launch_dim.template operator()<kMaxHeadDimGpu>();
}

// Tiles of 8 warps, of 4 where those would leave half of the device idle or have no room.
template <int kDim>
void launch_wide(const Device& device, Staging& staging, RunList& runs, Args args) {
  using Eight = WideShared<8, kDim>;
  using Four = WideShared<4, kDim>;
  int64_t tiles = divide(runs, 8 * kWarpVectors, args);
  if (sizeof(Eight) <= most_shared(device) && 2 * tiles * args.kv_heads > multiprocessors(device)) {
    return launch_tiles<Eight>(device, staging, attend_wide<8, kDim>, 8, runs, tiles, args);
  }
  tiles = divide(runs, 4 * kWarpVectors, args);
  launch_tiles<Four>(device, staging, attend_wide<4, kDim>, 4, runs, tiles, args);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(attention)(const AttentionArgs& args, const Device& device) {
  check(args);
  const int64_t group = args.kv_heads > 0 ? args.heads / args.kv_heads : 0;
  const int64_t most = args.head_dim <= gpu::kMaxWideHeadDim ? gpu::kMaxGroup : gpu::kFewVectors;
  if (args.head_dim > gpu::kMaxHeadDimGpu || group > most || args.kv_heads > 65535) {
    throw Error(
        ExitCode::kData, "attention",
        "head_dim or heads per kv head too large for the GPU" +
            expected_got("at most " + std::to_string(gpu::kMaxHeadDimGpu) + " and " + std::to_string(most),
                         std::to_string(args.head_dim) + " and " + std::to_string(group)));
  }
  gpu::RunList few, wide;
  int64_t span_end = 0;
  bool vectors = args.head_dim % 4 == 0 && gpu::starts_at_16(args.q);
  for (int64_t i = 0; i < args.run_count; ++i) {
    const AttentionRun& run = args.runs[i];
    if (run.query_rows == 0) continue;
    const bool is_few = run.query_rows * group <= gpu::kFewVectors || args.head_dim > gpu::kMaxWideHeadDim;
    (is_few ? few : wide).push_back({run.query_begin, run.query_rows, run.first_position, run.span_begin, 0});
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
  kernel_args.sinks = args.sinks;
  kernel_args.scale = args.scale;
  kernel_args.vectors = vectors;
  kernel_args.out_pairs = gpu::rows_aligned(args.out, args.head_dim, 8);
  gpu::launch_few(device, staging, few, kernel_args);
  if (wide.empty()) return;
  if (args.head_dim <= 64) return gpu::launch_wide<64>(device, staging, wide, kernel_args);
  gpu::launch_wide<gpu::kMaxWideHeadDim>(device, staging, wide, kernel_args);
}

}  // namespace eep
