// wgmma_tile.h - one tile of a matrix product on Hopper's tensor cores, shared by the kernels for sm_90a:
//   d[row, column] = sum_k a[row, k] b[column, k],   a and b 16-bit, d f32.
//
// A block of three warpgroups has a tile of 128 rows x 256 columns (or 64, where few tiles would leave
// multiprocessors idle), in steps of 64, four stages deep:
//   producer, one    a, gathered row by row, by cp.async; b by TMA, boxes of at most 128 rows, which one
//   thread
//                    asks for
//   consumers, two   64 rows each, wgmma m64n256k16 (m64n64k16) from shared memory
// mbarriers between them: full (the producer's 128 threads and the bytes of b) and empty (the consumers' 8
// warps) of each stage.
//
// Every element of d is one chain of wgmma over ascending k from 0, whatever its place in the tile and the
// other rows. The order within a step of 16 is wgmma's own, which need not be that of mma.sync.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/gpu/gpu.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/ptx_sm90.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep::EEP_GPU_NS {

template <int kTileColumns>
struct WgmmaTileOf {
  static constexpr int kRows = 128, kColumns = kTileColumns, kDepth = 64, kStages = 4;
  static constexpr int kAElements = kRows * kDepth, kBElements = kColumns * kDepth;
  static constexpr int kBoxRows = kColumns < 128 ? kColumns : 128;  // of b, a TMA instruction
  static constexpr int kProducers = 128, kThreads = 384;
  static constexpr size_t kStageBytes = size_t{2} * (kAElements + kBElements);
  // Stages start at multiples of 1024 bytes, as the swizzle of wgmma counts from there; then the barriers.
  static constexpr size_t kSharedBytes = 1024 + kStages * kStageBytes + 2 * kStages * 8;
  static EEP_HOST_DEVICE constexpr bool takes(int) { return true; }  // groups of every size (GroupWalk)
  // Both roles fit the registers that the launch leaves a thread, so none is handed over (setmaxnreg).
  static_assert(kThreads * 168 <= 65536);
};
using WgmmaTile = WgmmaTileOf<256>;
using WgmmaNarrowTile = WgmmaTileOf<64>;

#ifdef EEP_SM90A

template <class Tile>
struct WgmmaStages {
  uint16_t* tiles;  // [kStages] of a [128, 64] and b [256, 64], swizzled
  uint64_t* full;   // [kStages]
  uint64_t* empty;  // [kStages]

  __device__ uint16_t* a(int stage) const { return tiles + stage * (Tile::kAElements + Tile::kBElements); }
  __device__ uint16_t* b(int stage) const { return a(stage) + Tile::kAElements; }
};

// Called by the whole block, once.
template <class Tile>
__device__ WgmmaStages<Tile> wgmma_stages() {
  char* const shared = dynamic_shared<char>();
  const uint32_t misaligned = shared_address(shared) % 1024;
  char* const aligned = shared + (misaligned == 0 ? 0 : 1024 - misaligned);
  WgmmaStages<Tile> stages;
  stages.tiles = reinterpret_cast<uint16_t*>(aligned);
  stages.full = reinterpret_cast<uint64_t*>(aligned + Tile::kStages * Tile::kStageBytes);
  stages.empty = stages.full + Tile::kStages;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      mbarrier_init(stages.full + stage, Tile::kProducers);
      mbarrier_init(stages.empty + stage, (Tile::kThreads - Tile::kProducers) / 32);
    }
    fence_proxy_async();
  }
  __syncthreads();
  return stages;
}

// What the threads [0, kProducers) do. A stage is announced one step after its copies were issued, so that
// two are under way; announcements may not fall further behind: a consumer frees a stage one step late too.
template <class Tile>
class WgmmaProducer {
 public:
  __device__ explicit WgmmaProducer(const WgmmaStages<Tile>& stages) : stages_(stages) {}

  // The stages of one tile. Source: const uint16_t* a_row(int row), 16-byte aligned, or null: zeros;
  // any_a(), some address of that kind; void copy_b(uint16_t* b, int at, uint64_t* full), the boxes of
  // columns [at, at + 64) of k.
  template <class Source>
  __device__ void feed(const Source& source, int k) {
    constexpr int kRowStep = Tile::kProducers / 8;
    constexpr int kShare = Tile::kRows / kRowStep;
    const int piece = threadIdx.x % 8, first_row = threadIdx.x / 8;  // rows first_row + kRowStep i
    const uint16_t* a[kShare];
#pragma unroll
    for (int i = 0; i < kShare; ++i) a[i] = source.a_row(first_row + kRowStep * i);
    const int steps = static_cast<int>(ceil_div(k, Tile::kDepth));
    for (int step = 0; step < steps; ++step) {
      const int stage = turn_ % Tile::kStages, at = step * Tile::kDepth;
      mbarrier_wait(stages_.empty + stage, (turn_ / Tile::kStages + 1) % 2);
      if (threadIdx.x == 0) {
        uint64_t* const full = stages_.full + stage;
        mbarrier_expect_tx(full, 2 * Tile::kBElements);
        source.copy_b(stages_.b(stage), at, full);
      }
      const int inside = at + 8 * piece < k ? min(16, 2 * (k - at - 8 * piece)) : 0;  // bytes
#pragma unroll
      for (int i = 0; i < kShare; ++i) {
        const bool there = a[i] != nullptr && inside > 0;
        cp_async_16(stages_.a(stage) + 8 * swizzled_piece<64>(first_row + kRowStep * i, piece),
                    there ? a[i] + at + 8 * piece : source.any_a(), there ? inside : 0);
      }
      cp_async_commit();
      ++turn_;
      if (turn_ > 1) announce<1>();
    }
  }
  // After the last tile.
  __device__ void finish() {
    if (turn_ > 0) announce<0>();
  }

 private:
  // The copies of this thread, all but the last kPending stages', are there: for the consumers' wgmma too.
  template <int kPending>
  __device__ void announce() {
    cp_async_wait<kPending>();
    fence_proxy_async();
    mbarrier_arrive(stages_.full + (turn_ - 1 - kPending) % Tile::kStages);
  }

  const WgmmaStages<Tile>& stages_;
  int turn_ = 0;  // stages of all tiles so far
};

// What a warpgroup of the others does. Lane l of its warp w holds, with g = l / 4 and q = l % 4, in d[j][e]
// row() + 8 (e / 2), column 8 j + 2 q + e % 2 of the tile.
template <class Tile, class Half>
class WgmmaConsumer {
 public:
  float d[Tile::kColumns / 8][4];

  __device__ explicit WgmmaConsumer(const WgmmaStages<Tile>& stages) : stages_(stages) {}
  static __device__ int row() { return (threadIdx.x - Tile::kProducers) / 32 * 16 + threadIdx.x % 32 / 4; }

  __device__ void multiply(int k) {
    const int warpgroup_row = (threadIdx.x - Tile::kProducers) / 128 * 64;
    const int steps = static_cast<int>(ceil_div(k, Tile::kDepth));
    for (int step = 0; step < steps; ++step, ++turn_) {
      const int stage = turn_ % Tile::kStages;
      mbarrier_wait(stages_.full + stage, turn_ / Tile::kStages % 2);
      const uint64_t a = wgmma_descriptor(stages_.a(stage) + warpgroup_row * Tile::kDepth);
      const uint64_t b = wgmma_descriptor(stages_.b(stage));
      wgmma_fence();
#pragma unroll
      for (int part = 0; part < Tile::kDepth / 16; ++part) {  // 32 bytes further each
        product(a + 2 * part, b + 2 * part, step > 0 || part > 0);
      }
      wgmma_commit();
      if (step > 0) {  // the step before this one is read
        wgmma_wait<1>();
        release();
      }
    }
    wgmma_wait<0>();
    release();
  }

 private:
  __device__ void product(uint64_t a, uint64_t b, bool add) {
    if constexpr (std::is_same_v<Half, Bf16>) {
      wgmma_bf16(d, a, b, add);
    } else {
      wgmma_f16(d, a, b, add);
    }
  }
  __device__ void release() {  // the oldest stage
    if (threadIdx.x % 32 == 0) mbarrier_arrive(stages_.empty + freed_ % Tile::kStages);
    ++freed_;
  }

  const WgmmaStages<Tile>& stages_;
  int turn_ = 0, freed_ = 0;  // stages of all tiles so far
};

#endif

}  // namespace eep::EEP_GPU_NS
