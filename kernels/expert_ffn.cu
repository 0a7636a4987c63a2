// expert_ffn.cu - grouped SwiGLU on tensor cores, for the rows of each group:
//   h = silu(x W_gate^T) * (x W_up^T),   y = h W_down^T.
//
// Two products over the same persistent schedule: a fixed grid walks the tiles of all groups, whose counts
// only the device knows. gate_up reads rows of x through `order`, holds gate and up of a column in one thread
// (their rows alternate by eights in the weight tile) and writes h, rounded to the weights' dtype as the next
// product would round it; down writes row `slot` of out.
//
// Groups of at most kFewRows rows go to small tiles, which are bound by reading the weights once, the others
// to large ones. Both run the same chain of mma per element (mma_tile.h), so a row's bits do not depend on
// the size of its group.
#include "kernels/expert_ffn.h"
#include "kernels/expert_ffn_groups.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/mma_tile.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

// ---- gate and up ------------------------------------------------------------------------------------------

struct GateUpSource {
  const FfnArgs& args;
  GroupTile tile;
  int first_column;  // of the intermediate dimension

  __device__ const float* a_row(int row) const {
    const int position = tile.begin + row;
    if (position >= tile.end) return nullptr;
    const int slot = args.order != nullptr ? args.order[position] : position;
    return args.x + static_cast<int64_t>(slot / args.slots) * args.hidden;
  }
  __device__ const uint16_t* b_row(int row) const {
    const GateUpRow at = gate_up_row(row);
    const int column = first_column + at.column;
    if (column >= args.intermediate) return nullptr;
    const GroupMatrices& matrices = args.groups[tile.group];
    return (at.up ? matrices.up : matrices.gate) + column * row_stride_16bit(args.hidden);
  }
  __device__ const uint16_t* any_b() const { return args.groups[tile.group].gate; }
};

// block: TileSize threads; grid: any number of blocks. Each tile gives kColumns / 2 columns of h.
template <class Tile, class Half>
__global__ void __launch_bounds__(TileSize<Tile>::kThreads, Tile::kBlocks)
    gate_up(const __grid_constant__ FfnArgs args) {
  constexpr int kColumns = Tile::kColumns / 2;
  GroupWalk<Tile> walk{args, static_cast<int>(ceil_div(args.intermediate, kColumns))};
  for (int number = blockIdx.x;; number += gridDim.x) {
    const GroupTile tile = walk.find(number);
    if (tile.group < 0) return;
    MmaProduct<Tile, Half, GateUpSource> product;
    product.multiply({args, tile, tile.column * kColumns}, args.hidden, args.vectors);

    const int row = tile.begin + product.warp_row() + product.lane() / 4;
    const int column = tile.column * kColumns + product.warp_column() / 2 + product.lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < product.kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int position = row + 16 * i + 8 * half;
        if (position >= tile.end) continue;
        float* const h = args.activation + static_cast<int64_t>(position) * args.intermediate;
#pragma unroll
        for (int j = 0; j < product.kColumnBlocks; j += 2) {
          const float *gate = &product.d[i][j][2 * half], *up = &product.d[i][j + 1][2 * half];
          const uint32_t pair = Half::pack(silu(gate[0]) * up[0], silu(gate[1]) * up[1]);
          store_pair(h, column + 4 * j, args.intermediate, args.pairs, Half::low(pair), Half::high(pair));
        }
      }
    }
  }
}

// ---- down -------------------------------------------------------------------------------------------------

struct DownSource {
  const FfnArgs& args;
  GroupTile tile;
  int first_column;  // of the hidden dimension

  __device__ const float* a_row(int row) const {
    const int position = tile.begin + row;
    if (position >= tile.end) return nullptr;
    return args.activation + static_cast<int64_t>(position) * args.intermediate;
  }
  __device__ const uint16_t* b_row(int row) const {
    const int column = first_column + row;
    if (column >= args.hidden) return nullptr;
    return any_b() + column * row_stride_16bit(args.intermediate);
  }
  __device__ const uint16_t* any_b() const { return args.groups[tile.group].down; }
};

// block: TileSize threads; grid: any number of blocks.
template <class Tile, class Half>
__global__ void __launch_bounds__(TileSize<Tile>::kThreads, Tile::kBlocks)
    down(const __grid_constant__ FfnArgs args) {
  GroupWalk<Tile> walk{args, static_cast<int>(ceil_div(args.hidden, Tile::kColumns))};
  for (int number = blockIdx.x;; number += gridDim.x) {
    const GroupTile tile = walk.find(number);
    if (tile.group < 0) return;
    MmaProduct<Tile, Half, DownSource> product;
    product.multiply({args, tile, tile.column * Tile::kColumns}, args.intermediate, args.vectors);

    const int row = tile.begin + product.warp_row() + product.lane() / 4;
    const int column = tile.column * Tile::kColumns + product.warp_column() + product.lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < product.kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int position = row + 16 * i + 8 * half;
        if (position >= tile.end) continue;
        const int slot = args.order != nullptr ? args.order[position] : position;
        float* const y = args.out + static_cast<int64_t>(slot) * args.hidden;
#pragma unroll
        for (int j = 0; j < product.kColumnBlocks; ++j) {
          const float* d = &product.d[i][j][2 * half];
          store_pair(y, column + 8 * j, args.hidden, args.pairs, d[0], d[1]);
        }
      }
    }
  }
}

// ---- launcher ---------------------------------------------------------------------------------------------

template <class Tile, class Kernel>
void launch_persistent(const Device& device, Kernel kernel, const FfnArgs& args) {
  const unsigned blocks = static_cast<unsigned>(multiprocessors(device) * Tile::kBlocks);
  launch(device,
         {"expert_ffn",
          blocks,
          TileSize<Tile>::kThreads,
          TileSize<Tile>::kSharedBytes,
          {{"groups", args.group_count}, {"hidden", args.hidden}, {"intermediate", args.intermediate}}},
         kernel, args);
}

template <class Half>
void expert_ffn(FfnArgs args, const Device& device) {
  args.vectors = rows_aligned(args.x, args.hidden, 16);
  args.pairs = rows_aligned(args.activation, args.intermediate, 8);
  launch_persistent<WideTile>(device, gate_up<WideTile, Half>, args);
  launch_persistent<FewTile>(device, gate_up<FewTile, Half>, args);
  args.vectors = rows_aligned(args.activation, args.intermediate, 16);
  args.pairs = rows_aligned(args.out, args.hidden, 8);
  launch_persistent<WideTile>(device, down<WideTile, Half>, args);
  launch_persistent<FewTile>(device, down<FewTile, Half>, args);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(expert_ffn)(const ExpertFfnArgs& args, const Device& device) {
  check(args);
  if (args.groups == 0) return;
  gpu::Staging staging(device);
  const gpu::FfnArgs ffn = gpu::stage_groups(args, staging);
  if (args.experts[0].gate.dtype == DType::kBF16) {
    gpu::expert_ffn<gpu::Bf16>(ffn, device);
  } else {
    gpu::expert_ffn<gpu::F16>(ffn, device);
  }
}

}  // namespace eep
