// gemm.cu - dense projections on tensor cores:
//   out[m, n] = sum_k x[m, k] * w[n, k] (+ bias[n]) (+ out[m, n]),   x rounded to the weights' dtype.
//
// The tiles of mma_tile.h over a persistent grid. Up to kFewRows rows take small tiles, bound by reading the
// weights once; more take large ones. Both run the same chain for an element, and bias and old output are
// added at the end, so its bits depend on its row of x and its row of w alone.
#include <algorithm>
#include <string>

#include "kernels/common/error.h"
#include "kernels/gemm.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/mma_tile.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

struct DenseArgs {
  const float* x;          // [x_rows, k]
  const int32_t* x_index;  // [rows] or null
  const uint16_t* w;       // [n, row_stride_16bit(k)]
  const float* bias;       // [n] or null
  float* out;              // [rows, out_stride]
  int64_t out_stride;
  int32_t rows, n, k;
  bool accumulate;
  bool vectors;  // rows of x start at 16 bytes
};

struct DenseSource {
  const DenseArgs& args;
  int first_row, first_column;

  __device__ const float* a_row(int row) const {
    const int at = first_row + row;
    if (at >= args.rows) return nullptr;
    return args.x + static_cast<int64_t>(args.x_index != nullptr ? args.x_index[at] : at) * args.k;
  }
  __device__ const uint16_t* b_row(int row) const {
    const int column = first_column + row;
    return column < args.n ? args.w + column * row_stride_16bit(args.k) : nullptr;
  }
  __device__ const uint16_t* any_b() const { return args.w; }
};

// block: TileSize threads; grid: any number of blocks.
template <class Tile, class Half>
__global__ void __launch_bounds__(TileSize<Tile>::kThreads, Tile::kBlocks)
    dense(const __grid_constant__ DenseArgs args) {
  const int row_tiles = static_cast<int>(ceil_div(args.rows, Tile::kRows));
  const int column_tiles = static_cast<int>(ceil_div(args.n, Tile::kColumns));
  for (int number = blockIdx.x; number < row_tiles * column_tiles; number += gridDim.x) {
    const TileAt tile = tile_at(number, row_tiles, column_tiles);
    MmaProduct<Tile, Half, DenseSource> product;
    product.multiply({args, tile.row * Tile::kRows, tile.column * Tile::kColumns}, args.k, args.vectors);

    const int first_row = tile.row * Tile::kRows + product.warp_row() + product.lane() / 4;
    const int first_column = tile.column * Tile::kColumns + product.warp_column() + product.lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < product.kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < product.kColumnBlocks; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = first_row + 16 * i + 8 * (e / 2), column = first_column + 8 * j + e % 2;
          if (row >= args.rows || column >= args.n) continue;
          float* const out = args.out + row * args.out_stride + column;
          float sum = product.d[i][j][e];
          if (args.bias != nullptr) sum += args.bias[column];
          if (args.accumulate) sum += *out;
          *out = sum;
        }
      }
    }
  }
}

template <class Tile>
void launch_dense(const Device& device, const DenseArgs& args, DType dtype) {
  const int64_t tiles = ceil_div(args.rows, Tile::kRows) * ceil_div(args.n, Tile::kColumns);
  const int64_t at_once = int64_t{multiprocessors(device)} * Tile::kBlocks;
  launch(device,
         {"gemm",
          static_cast<unsigned>(std::min(tiles, at_once)),
          TileSize<Tile>::kThreads,
          TileSize<Tile>::kSharedBytes,
          {{"rows", args.rows}, {"n", args.n}, {"k", args.k}}},
         dtype == DType::kBF16 ? dense<Tile, Bf16> : dense<Tile, F16>, args);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(gemm)(const GemmArgs& args, const Device& device) {
  check(args);
  if (dtype_size(args.w.dtype) != 2) {
    throw Error(ExitCode::kData, "gemm",
                std::string("weights are ") + dtype_name(args.w.dtype) + " (expected BF16 or F16)");
  }
  if (args.rows == 0 || args.w.n == 0) return;
  gpu::Staging staging(device);
  gpu::DenseArgs dense{};
  dense.x = args.x;
  dense.x_index = staging.put(args.x_index, args.rows);
  dense.w = static_cast<const uint16_t*>(args.w.data);
  dense.bias = args.bias;
  dense.out = args.out;
  dense.out_stride = args.out_stride;
  dense.rows = static_cast<int32_t>(args.rows);
  dense.n = static_cast<int32_t>(args.w.n);
  dense.k = static_cast<int32_t>(args.w.k);
  dense.accumulate = args.accumulate;
  dense.vectors = gpu::rows_aligned(args.x, args.w.k, 16);
  if (args.rows <= kFewRows) {
    gpu::launch_dense<gpu::FewTile>(device, dense, args.w.dtype);
  } else {
    gpu::launch_dense<gpu::WideTile>(device, dense, args.w.dtype);
  }
}

}  // namespace eep
