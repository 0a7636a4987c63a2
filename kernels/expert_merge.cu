// expert_merge.cu - merged[r] = sum_i coefficient[r, i] * base[i], element-wise, for all rows r in one read
// of the base experts. The number of experts, which is the model's, chooses the kernel, so a merged expert's
// bits depend on its coefficients and the base experts alone:
//
//   up to 16 experts   bound by memory: CUDA cores, the chain of fma in ascending i that the CPU runs too,
//                      zero coefficients skipped. A thread keeps 8 elements of every expert in registers.
//   more               bound by arithmetic on CUDA cores: tensor cores. Each f32 coefficient is split into
//                      two 16-bit ones, hi + lo; products are exact, sums f32. With u the unit roundoff of
//                      the 16-bit type the split is off by u^2 |coefficient|, far below the final rounding,
//                      u. A zero coefficient multiplies: base experts must be finite.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/float16.h"
#include "kernels/expert_merge.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/ptx.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/router.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kFewExperts = 16;
constexpr int kThreads = 256;

struct MergeArgs {
  const uint16_t* const* base;  // [experts], each [elements]
  uint16_t* const* merged;      // [rows], each [elements]
  const float* coefficient;     // [rows, experts]
  const uint4* fragments;  // [chunks of 64 rows, steps, row blocks, hi and lo, 32] of 16 x 16 coefficients
  int64_t elements;
  int32_t experts, rows;
};

// Elements [at, at + 8) of an expert, as far as they exist.
__device__ void store_piece(uint16_t* expert, int64_t at, int64_t elements, const uint4& piece) {
  if (at + 8 <= elements) {
    st_global_v4(expert + at, piece);
    return;
  }
  const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (at + i < elements) expert[at + i] = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
  }
}

// ---- few experts: CUDA cores ------------------------------------------------------------------------------

// Elements [at, at + 8) of an expert, zeros beyond its end.
__device__ uint4 load_piece(const uint16_t* expert, int64_t at, int64_t elements) {
  if (at + 8 <= elements) return load_vector<uint4>(expert + at);
  uint32_t words[4] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (at + i < elements) words[i / 2] |= static_cast<uint32_t>(expert[at + i]) << i % 2 * 16;
  }
  return {words[0], words[1], words[2], words[3]};
}

template <class Half>
__device__ void add_pair(float (&sum)[8], int pair, uint32_t word, float scale) {
  sum[2 * pair] = fmaf(scale, Half::low(word), sum[2 * pair]);
  sum[2 * pair + 1] = fmaf(scale, Half::high(word), sum[2 * pair + 1]);
}

// block: kThreads; grid: ceil(elements / 8 / kThreads); shared: coefficients of all rows.
template <class Half, int kExperts>
__global__ void __launch_bounds__(kThreads) merge_few(const __grid_constant__ MergeArgs args) {
  constexpr int kRowBlock = 4;
  float* const coefficient = dynamic_shared<float>();  // [rows, experts]
  for (int i = threadIdx.x; i < args.rows * args.experts; i += kThreads) coefficient[i] = args.coefficient[i];
  __syncthreads();
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * 8;
  if (at >= args.elements) return;

  uint4 piece[kExperts];
#pragma unroll
  for (int e = 0; e < kExperts; ++e) {
    piece[e] = e < args.experts ? load_piece(args.base[e], at, args.elements) : uint4{0, 0, 0, 0};
  }
  for (int row = 0; row < args.rows; row += kRowBlock) {
    float sum[kRowBlock][8] = {};
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      if (e >= args.experts) continue;
#pragma unroll
      for (int r = 0; r < kRowBlock; ++r) {
        const float scale = row + r < args.rows ? coefficient[(row + r) * args.experts + e] : 0.0f;
        if (scale == 0.0f) continue;
        add_pair<Half>(sum[r], 0, piece[e].x, scale);
        add_pair<Half>(sum[r], 1, piece[e].y, scale);
        add_pair<Half>(sum[r], 2, piece[e].z, scale);
        add_pair<Half>(sum[r], 3, piece[e].w, scale);
      }
    }
#pragma unroll
    for (int r = 0; r < kRowBlock; ++r) {
      if (row + r >= args.rows) continue;
      const float(&s)[8] = sum[r];
      store_piece(
          args.merged[row + r], at, args.elements,
          {Half::pack(s[0], s[1]), Half::pack(s[2], s[3]), Half::pack(s[4], s[5]), Half::pack(s[6], s[7])});
    }
  }
}

// ---- up to 128 experts: tensor cores, base experts in registers -------------------------------------------
// merged [16 rows, elements] += (hi + lo) [16, 16 experts] x base [16 experts, elements]

constexpr int kResidentThreads = 128;
constexpr int kResidentColumns = 64;  // of a warp
constexpr int kResidentTile = kResidentThreads / 32 * kResidentColumns;
constexpr int kResidentExperts = 128;
constexpr int kRing = 4;  // row blocks whose coefficients are here or on their way

// Where 16-byte piece `piece` of an expert lies in the block's tile, in elements.
__device__ int resident_place(int expert, int piece) {
  return expert * kResidentTile + 8 * (piece ^ expert % 8);
}

// block: kResidentThreads; grid: ceil(elements / kResidentTile); shared: the tile of 16 kSteps experts, then
// the coefficients of kRing row blocks. A warp keeps its 64 elements of every expert in registers, and reads
// nothing but coefficients, which the block brings four row blocks ahead.
template <class Half, int kSteps>
__global__ void __launch_bounds__(kResidentThreads, 2)
    merge_resident(const __grid_constant__ MergeArgs args) {
  constexpr int kBlocks = kResidentColumns / 8, kPieces = kResidentTile / 8;
  constexpr int kWords = kSteps * 2 * 32;  // uint4 of a row block's coefficients
  uint16_t* const tile = dynamic_shared<uint16_t>();
  uint4* const ring = reinterpret_cast<uint4*>(tile + 16 * kSteps * kResidentTile);
  const int lane = threadIdx.x % 32, column = threadIdx.x / 32 * kResidentColumns;
  const int row_blocks = static_cast<int>(ceil_div(args.rows, 16));
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kResidentTile;

#pragma unroll 8
  for (int n = 0; n < 16 * kSteps * kPieces / kResidentThreads; ++n) {
    const int i = threadIdx.x + n * kResidentThreads, expert = i / kPieces, piece = i % kPieces;
    const int64_t at = first + 8 * piece;
    const bool there = expert < args.experts && at < args.elements;
    const int valid = there ? static_cast<int>(min(static_cast<int64_t>(8), args.elements - at)) * 2 : 0;
    cp_async_16(tile + resident_place(expert, piece), args.base[there ? expert : 0] + (there ? at : 0),
                valid);
  }
  const auto copy_coefficients = [&](int block) {
    if (block < row_blocks) {
#pragma unroll
      for (int n = 0; n < kWords / kResidentThreads; ++n) {
        const int i = threadIdx.x + n * kResidentThreads;
        cp_async_16(ring + block % kRing * kWords + i, args.fragments + int64_t{block} * kWords + i);
      }
    }
    cp_async_commit();
  };
  for (int block = 0; block < kRing - 1; ++block) copy_coefficients(block);  // the first with the tile
  cp_async_wait<kRing - 2>();
  __syncthreads();  // the base experts are there
  uint32_t base[kSteps][kBlocks / 2][4];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int j = 0; j < kBlocks; j += 2) {
      ldmatrix_x4_trans(base[step][j / 2],
                        tile + resident_place(16 * step + lane % 16, column / 8 + j + lane / 16));
    }
  }

  for (int block = 0; block < row_blocks; ++block) {
    cp_async_wait<kRing - 2>();
    __syncthreads();  // the row block is there, and nobody reads the one before it any more
    copy_coefficients(block + kRing - 1);
    uint16_t* to[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 16 * block + lane / 4 + 8 * half;
      to[half] = row < args.rows ? args.merged[row] : nullptr;
    }
    float sum[kBlocks][4] = {};
    const uint4* const rows = ring + block % kRing * kWords + lane;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int part = 0; part < 2; ++part) {  // hi before lo
        const uint4 words = rows[(step * 2 + part) * 32];
#pragma unroll
        for (int j = 0; j < kBlocks; ++j) {
          const uint32_t(&b)[4] = base[step][j / 2];
          Half::mma(sum[j], {words.x, words.y, words.z, words.w}, {b[j % 2 * 2], b[j % 2 * 2 + 1]});
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < kBlocks; j += 4) {
        uint32_t word[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) word[c] = Half::pack(sum[j + c][2 * half], sum[j + c][2 * half + 1]);
        const uint4 eight = transpose_quad(word[0], word[1], word[2], word[3]);
        if (to[half] != nullptr)
          store_piece(to[half], first + column + 8 * (j + lane % 4), args.elements, eight);
      }
    }
  }
  cp_async_wait<0>();
}

// ---- more experts: tensor cores, base experts in shared memory
// --------------------------------------------- merged [64 rows, elements] += (hi + lo) [64, 16 experts] x
// base [16 experts, elements]

constexpr int kManyThreads = 128;
constexpr int kWarpColumns = 64, kWarpRows = 64;
constexpr int kRowBlocks = kWarpRows / 16, kColumnBlocks = kWarpColumns / 8;
constexpr int kStepWords = kRowBlocks * 2 * 32;  // uint4 of the coefficients of 64 rows and 16 experts

// The warps of a block lie beside each other over kColumns elements, and in kGroups groups that take
// different rows.
template <int kColumns>
struct ManyTile {
  static constexpr int kPieces = kColumns / 8;  // of 16 bytes, of a row
  static constexpr int kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kGroups = kManyThreads / 32 / kWarpsAcross;
  static constexpr int kPassBlocks = kColumns == 256 ? 2 : 1;  // row blocks of a warp stored at once
  static constexpr int kPassRows = kGroups * kPassBlocks * 16;
  static constexpr int kShare = kPassRows * kPieces / kManyThreads;  // pieces of a pass that a thread stores
  static_assert(kShare * kManyThreads == kPassRows * kPieces);

  // Where 16-byte piece `piece` of a row lies, in elements: eight rows at one piece, and eight neighbouring
  // pieces, touch all banks.
  static EEP_HOST_DEVICE constexpr int place(int row, int piece) {
    return row * kColumns + 8 * (piece ^ row % 8);
  }
  static constexpr size_t shared_bytes(int64_t experts) {
    return static_cast<size_t>((ceil_div(experts, 16) * 16 + kPassRows) * kColumns) * 2;
  }
};

// Coefficients of 64 rows and 16 experts as fragments A.
struct Coefficients {
  uint32_t part[kRowBlocks][2][4];  // hi and lo
};

__device__ void load_fragment(Coefficients& to, const uint4* from, int i, int p) {
  const uint4 words = from[(i * 2 + p) * 32 + threadIdx.x % 32];
  to.part[i][p][0] = words.x, to.part[i][p][1] = words.y;
  to.part[i][p][2] = words.z, to.part[i][p][3] = words.w;
}

// The base experts' elements of this block, zeros beyond experts and elements.
template <int kColumns>
__device__ void copy_base(const MergeArgs& args, uint16_t* tile, int steps, int64_t first) {
  constexpr int kPieces = ManyTile<kColumns>::kPieces;
  for (int i = threadIdx.x; i < 16 * steps * kPieces; i += kManyThreads) {
    const int expert = i / kPieces, piece = i % kPieces;
    const int64_t at = first + 8 * piece;
    const bool there = expert < args.experts && at < args.elements;
    const int valid = there ? static_cast<int>(min(static_cast<int64_t>(8), args.elements - at)) * 2 : 0;
    cp_async_16(tile + ManyTile<kColumns>::place(expert, piece),
                args.base[there ? expert : 0] + (there ? at : 0), valid);
  }
  cp_async_commit();
}

// sum += 16 experts' share; tile: their elements. Of each sum hi goes before lo. A fragment makes room for
// the one of the next step as soon as it is multiplied.
template <class Half, int kColumns>
__device__ void add_step(float (&sum)[kRowBlocks][kColumnBlocks][4], Coefficients& rows, const uint4* next,
                         const uint16_t* tile, int column) {
  const int lane = threadIdx.x % 32, expert = lane % 16, piece = column / 8 + lane / 16;
  uint32_t base[kColumnBlocks / 2][4];
#pragma unroll
  for (int j = 0; j < kColumnBlocks; j += 2)
    ldmatrix_x4_trans(base[j / 2], tile + ManyTile<kColumns>::place(expert, piece + j));
#pragma unroll
  for (int p = 0; p < 2; ++p) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnBlocks; ++j)
        Half::mma(sum[i][j], rows.part[i][p], {base[j / 2][j % 2 * 2], base[j / 2][j % 2 * 2 + 1]});
      load_fragment(rows, next, i, p);
    }
  }
}

// Row blocks [pass * kPassBlocks, + kPassBlocks) of every warp to device memory, through shared memory: a
// warp's store is of neighbouring pieces of one row, where the fragments would touch eight rows. first_row:
// of the block's first group.
template <class Half, int kColumns>
__device__ void store_pass(const MergeArgs& args, const float (&sum)[kRowBlocks][kColumnBlocks][4], int pass,
                           uint16_t* staged, int64_t first, int first_row) {
  using Tile = ManyTile<kColumns>;
  constexpr int kRowsOfWarp = 16 * Tile::kPassBlocks;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __syncthreads();  // nobody reads the rows staged before any more
#pragma unroll
  for (int i = 0; i < Tile::kPassBlocks; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = (warp / Tile::kWarpsAcross * Tile::kPassBlocks + i) * 16 + 8 * half + lane / 4;
#pragma unroll
      for (int j = 0; j < kColumnBlocks; ++j) {
        const int piece = warp % Tile::kWarpsAcross * kColumnBlocks + j;
        const float(&s)[4] = sum[pass * Tile::kPassBlocks + i][j];
        store_vector(staged + Tile::place(row, piece) + 2 * (lane % 4),
                     Half::pack(s[2 * half], s[2 * half + 1]));
      }
    }
  }
  uint16_t* to[Tile::kShare];  // asked for while others still stage
#pragma unroll
  for (int k = 0; k < Tile::kShare; ++k) {
    const int r = (threadIdx.x + k * kManyThreads) / Tile::kPieces;
    const int row = first_row + r / kRowsOfWarp * kWarpRows + pass * kRowsOfWarp + r % kRowsOfWarp;
    to[k] = row < args.rows ? args.merged[row] : nullptr;
  }
  __syncthreads();  // the staged rows are complete
  uint4 piece[Tile::kShare];
#pragma unroll
  for (int k = 0; k < Tile::kShare; ++k) {
    const int i = threadIdx.x + k * kManyThreads;
    piece[k] = load_vector<uint4>(staged + Tile::place(i / Tile::kPieces, i % Tile::kPieces));
  }
  const int64_t at = first + 8 * (threadIdx.x % Tile::kPieces);
#pragma unroll
  for (int k = 0; k < Tile::kShare; ++k) {
    if (to[k] != nullptr) store_piece(to[k], at, args.elements, piece[k]);
  }
}

// block: kManyThreads; grid: ceil(elements / kColumns); shared: kColumns elements of every expert, padded to
// whole steps of 16 experts, and of the rows on their way out. A warp multiplies 64 rows by 64 elements at a
// time, and loads the coefficients of a step while it multiplies those of the step before.
template <class Half, int kColumns>
__global__ void __launch_bounds__(kManyThreads, 2) merge_many(const __grid_constant__ MergeArgs args) {
  using Tile = ManyTile<kColumns>;
  uint16_t* const tile = dynamic_shared<uint16_t>();
  const int steps = static_cast<int>(ceil_div(args.experts, 16));
  uint16_t* const staged = tile + 16 * steps * kColumns;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kColumns;
  copy_base<kColumns>(args, tile, steps, first);

  const int warp = threadIdx.x / 32, column = warp % Tile::kWarpsAcross * kWarpColumns;
  const int chunks = static_cast<int>(ceil_div(args.rows, kWarpRows));
  const int rounds = static_cast<int>(ceil_div(chunks, Tile::kGroups));
  // of 64 rows; the last group may have none, and then repeats others' work, which is not stored
  const auto chunk_of = [&](int round) {
    return min(round * Tile::kGroups + warp / Tile::kWarpsAcross, chunks - 1);
  };
  const uint4* next = args.fragments + chunk_of(0) * steps * kStepWords;
  Coefficients rows;
#pragma unroll
  for (int i = 0; i < kRowBlocks * 2; ++i) load_fragment(rows, next, i / 2, i % 2);
  cp_async_wait<0>();
  __syncthreads();  // the base experts are there
  for (int round = 0; round < rounds; ++round) {
    float sum[kRowBlocks][kColumnBlocks][4] = {};
    for (int step = 0; step < steps; ++step) {
      next += kStepWords;
      if (step + 1 == steps)
        next = args.fragments + chunk_of(min(round + 1, rounds - 1)) * steps * kStepWords;
      add_step<Half, kColumns>(sum, rows, next, tile + 16 * step * kColumns, column);
    }
#pragma unroll
    for (int pass = 0; pass < kRowBlocks / Tile::kPassBlocks; ++pass)
      store_pass<Half, kColumns>(args, sum, pass, staged, first, round * Tile::kGroups * kWarpRows);
  }
}

// ---- rounded at each step: any number of experts, not built for speed --------------------------------

template <class Half>
__device__ float rounded(float value) {
  return Half::low(Half::pack(value, 0.0f));
}

// An element a thread, all rows. block: kThreads; grid: ceil(elements / kThreads).
template <class Half>
__global__ void merge_rounded(const __grid_constant__ MergeArgs args) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= args.elements) return;
  for (int32_t row = 0; row < args.rows; ++row) {
    const float* const coefficient = args.coefficient + int64_t{row} * args.experts;
    float sum = 0;
    for (int32_t expert = 0; expert < args.experts; ++expert) {
      const float scale = coefficient[expert];
      if (scale == 0.0f) continue;
      const float product = __fmul_rn(scale, Half::low(args.base[expert][at]));
      sum = rounded<Half>(__fadd_rn(sum, rounded<Half>(product)));
    }
    args.merged[row][at] = static_cast<uint16_t>(Half::pack(sum, 0.0f));
  }
}

// ---- launchers --------------------------------------------------------------------------------------------

template <class Half>
void launch_few(const Device& device, MergeArgs args) {
  // Coefficients of as many rows as fit into shared memory; a further launch reads the experts again.
  const int32_t at_once = static_cast<int32_t>((48 << 10) / sizeof(float)) / args.experts;
  const int64_t blocks = ceil_div(args.elements, 8 * kThreads);
  const int32_t rows = args.rows;
  for (int32_t row = 0; row < rows; row += at_once) {
    args.rows = std::min(at_once, rows - row);
    launch(device,
           {"expert_merge",
            static_cast<unsigned>(blocks),
            kThreads,
            static_cast<size_t>(args.rows) * static_cast<size_t>(args.experts) * sizeof(float),
            {{"experts", args.experts}, {"rows", args.rows}, {"elements", args.elements}}},
           args.experts <= 8 ? merge_few<Half, 8> : merge_few<Half, kFewExperts>, args);
    args.merged += args.rows;
    args.coefficient += static_cast<int64_t>(args.rows) * args.experts;
  }
}

template <class Half, int kSteps>
void launch_resident(const Device& device, const MergeArgs& args) {
  constexpr size_t kTileBytes = size_t{2} * 16 * kSteps * kResidentTile;
  constexpr size_t kRingBytes = size_t{16} * kRing * kSteps * 2 * 32;
  launch(device,
         {"expert_merge",
          static_cast<unsigned>(ceil_div(args.elements, kResidentTile)),
          kResidentThreads,
          kTileBytes + kRingBytes,
          {{"experts", args.experts}, {"rows", args.rows}, {"elements", args.elements}}},
         merge_resident<Half, kSteps>, args);
}

template <class Half, int kColumns>
void launch_many(const Device& device, const MergeArgs& args) {
  launch(device,
         {"expert_merge",
          static_cast<unsigned>(ceil_div(args.elements, kColumns)),
          kManyThreads,
          ManyTile<kColumns>::shared_bytes(args.experts),
          {{"experts", args.experts}, {"rows", args.rows}, {"elements", args.elements}}},
         merge_many<Half, kColumns>, args);
}

// Coefficients as fragments A of mma.m16n8k16 (ptx.h), hi and lo, zeros beyond rows and experts: whole chunks
// of `blocks` row blocks, of each the steps of 16 experts, of each the row blocks.
std::vector<uint4> split_fragments(const float* coefficient, int32_t rows, int32_t experts, DType dtype,
                                   int64_t blocks, int64_t steps) {
  const auto narrow = [dtype](float v) { return dtype == DType::kBF16 ? f32_to_bf16(v) : f32_to_f16(v); };
  const auto widen = [dtype](uint16_t b) { return dtype == DType::kBF16 ? bf16_to_f32(b) : f16_to_f32(b); };
  const int64_t chunk_rows = 16 * blocks, chunks = ceil_div(rows, chunk_rows);
  std::vector<uint4> fragments(static_cast<size_t>(chunks * steps * blocks * 2 * 32), uint4{0, 0, 0, 0});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t expert = 0; expert < experts; ++expert) {
      const float value = coefficient[row * experts + expert];
      if (dtype == DType::kF16 && std::fabs(value) > 65504.0f) {
        throw Error(ExitCode::kData, "expert_merge",
                    "coefficient of row " + std::to_string(row) + ", expert " + std::to_string(expert) +
                        " is " + std::to_string(value) + " (expected at most 65504 in magnitude with F16)");
      }
      const uint16_t hi = narrow(value), lo = narrow(value - widen(hi));
      const int64_t r = row % 16, e = expert % 16, lane = r % 8 * 4 + e % 8 / 2;
      const int64_t block = ((row / chunk_rows * steps + expert / 16) * blocks + row % chunk_rows / 16) * 2;
      for (int64_t p = 0; p < 2; ++p) {
        uint4& words = fragments[static_cast<size_t>((block + p) * 32 + lane)];
        uint32_t* const word[4] = {&words.x, &words.y, &words.z, &words.w};
        *word[r / 8 + e / 8 * 2] |= static_cast<uint32_t>(p == 0 ? hi : lo) << e % 2 * 16;
      }
    }
  }
  return fragments;
}

template <class Half>
void merge(const Device& device, Staging& staging, const ExpertMergeArgs& args, MergeArgs merge_args) {
  if (args.eep_rounding) {
    merge_args.coefficient = staging.put(args.coefficient, int64_t{args.rows} * args.experts);
    return launch(device,
                  {"expert_merge",
                   static_cast<unsigned>(ceil_div(args.elements, kThreads)),
                   kThreads,
                   0,
                   {{"experts", args.experts}, {"rows", args.rows}, {"elements", args.elements}}},
                  merge_rounded<Half>, merge_args);
  }
  if (args.experts <= kFewExperts) {
    merge_args.coefficient = staging.put(args.coefficient, int64_t{args.rows} * args.experts);
    return launch_few<Half>(device, merge_args);
  }
  const bool resident = args.experts <= kResidentExperts;
  const int64_t steps = !resident ? ceil_div(args.experts, 16) : args.experts <= 64 ? 4 : 8;
  const std::vector<uint4> fragments = split_fragments(args.coefficient, args.rows, args.experts, args.dtype,
                                                       resident ? 1 : kRowBlocks, steps);
  merge_args.fragments = staging.put(fragments.data(), static_cast<int64_t>(fragments.size()));
  if (resident && steps == 4) return launch_resident<Half, 4>(device, merge_args);
  if (resident) return launch_resident<Half, 8>(device, merge_args);
  if (args.experts <= 192) return launch_many<Half, 256>(device, merge_args);
  if (args.experts <= 512) return launch_many<Half, 128>(device, merge_args);
  launch_many<Half, 64>(device, merge_args);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(expert_merge)(const ExpertMergeArgs& args, const Device& device) {
  check(args);
  if (dtype_size(args.dtype) != 2) {
    throw Error(ExitCode::kData, "expert_merge",
                std::string("weights are ") + dtype_name(args.dtype) + " (expected BF16 or F16)");
  }
  if (args.experts > kMaxExperts) {
    throw Error(ExitCode::kData, "expert_merge",
                "too many experts" + expected_got("at most " + std::to_string(kMaxExperts), args.experts));
  }
  if (args.rows == 0 || args.elements == 0) return;
  gpu::Staging staging(device);
  gpu::MergeArgs merge_args{};
  merge_args.base = reinterpret_cast<const uint16_t* const*>(staging.put(args.base, args.experts));
  merge_args.merged = reinterpret_cast<uint16_t* const*>(staging.put(args.merged, args.rows));
  merge_args.elements = args.elements;
  merge_args.experts = args.experts;
  merge_args.rows = args.rows;
  if (args.dtype == DType::kBF16) {
    gpu::merge<gpu::Bf16>(device, staging, args, merge_args);
  } else {
    gpu::merge<gpu::F16>(device, staging, args, merge_args);
  }
}

}  // namespace eep
