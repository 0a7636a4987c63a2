// gemm_sm90.cu - gemm for Hopper: the tile of wgmma_tile.h over a dense matrix. The contract of gemm.cu, from
// 16-bit rows.
//
// A tile of 256 columns; of 64 where the others would leave multiprocessors idle (few rows, as in decoding:
// the weights are then read by more of them at once). Both run the same chain of wgmma for an element, and
// bias and old output are added at the end, so its bits depend on its row of x and its row of w alone.
#include <algorithm>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/gemm.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/mma_tile.h"
#include "kernels/gpu/tensor_map.h"
#include "kernels/gpu/wgmma_tile.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

struct WgmmaDenseArgs {
  const uint16_t* x;       // [x_rows, row_stride_16bit(k)]
  const int32_t* x_index;  // [rows] or null
  const float* bias;       // [n] or null
  float* out;              // [rows, out_stride]
  int64_t out_stride;
  int32_t rows, n, k;
  bool accumulate;
  bool pairs;         // rows of out start at 8 bytes, and n is even
  TensorMap weights;  // [1, n, k]
};

template <class Tile>
struct WgmmaDenseSource {
  const WgmmaDenseArgs& args;
  int first_row, first_column;

  __device__ const uint16_t* a_row(int row) const {
    const int at = first_row + row;
    if (at >= args.rows) return nullptr;
    return args.x + (args.x_index != nullptr ? args.x_index[at] : at) * row_stride_16bit(args.k);
  }
  __device__ const uint16_t* any_a() const { return args.x; }
#ifdef EEP_SM90A
  __device__ void copy_b(uint16_t* b, int at, uint64_t* full) const {
    for (int row = 0; row < Tile::kColumns; row += Tile::kBoxRows) {
      cp_async_bulk_tensor_3d(b + row * Tile::kDepth, &args.weights, at, first_column + row, 0, full);
    }
  }
#endif
};

#ifdef EEP_SM90A

// Sum, bias, old output, in this order. row, column: of the tile's part that starts with this lane's
// elements.
template <class Tile, class Half>
__device__ void store(const WgmmaDenseArgs& args, int row, int column,
                      const WgmmaConsumer<Tile, Half>& product) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row + 8 * half >= args.rows) continue;
    float* const out = args.out + (row + 8 * half) * args.out_stride;
#pragma unroll
    for (int j = 0; j < Tile::kColumns / 8; ++j) {
      const int at = column + 8 * j;
      float sum[2] = {product.d[j][2 * half], product.d[j][2 * half + 1]};
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (at + e >= args.n) continue;
        if (args.bias != nullptr) sum[e] += args.bias[at + e];
        if (args.accumulate) sum[e] += out[at + e];
      }
      store_pair(out, at, args.n, args.pairs, sum[0], sum[1]);
    }
  }
}

#endif

// block: Tile::kThreads; grid: any number of blocks, one a multiprocessor at a time.
template <class Tile, class Half>
__global__ void __launch_bounds__(Tile::kThreads, 1) gemm_wgmma(const __grid_constant__ WgmmaDenseArgs args) {
#ifdef EEP_SM90A
  const WgmmaStages<Tile> stages = wgmma_stages<Tile>();
  const int row_tiles = static_cast<int>(ceil_div(args.rows, Tile::kRows));
  const int column_tiles = static_cast<int>(ceil_div(args.n, Tile::kColumns));
  if (threadIdx.x < Tile::kProducers) {
    WgmmaProducer<Tile> producer(stages);
    for (int number = blockIdx.x; number < row_tiles * column_tiles; number += gridDim.x) {
      const TileAt tile = tile_at(number, row_tiles, column_tiles);
      producer.feed(WgmmaDenseSource<Tile>{args, tile.row * Tile::kRows, tile.column * Tile::kColumns},
                    args.k);
    }
    producer.finish();
  } else {
    WgmmaConsumer<Tile, Half> product(stages);
    for (int number = blockIdx.x; number < row_tiles * column_tiles; number += gridDim.x) {
      const TileAt tile = tile_at(number, row_tiles, column_tiles);
      product.multiply(args.k);
      store(args, tile.row * Tile::kRows + product.row(), tile.column * Tile::kColumns + threadIdx.x % 4 * 2,
            product);
    }
  }
#else
  __trap();
#endif
}

template <class Tile>
int64_t tiles_of(const WgmmaDenseArgs& args) {
  return ceil_div(args.rows, Tile::kRows) * ceil_div(args.n, Tile::kColumns);
}

template <class Tile>
void launch_wgmma(const Device& device, WgmmaDenseArgs args, const PackedMatrix& w) {
  const std::vector<const uint16_t*> matrix{static_cast<const uint16_t*>(w.data)};
  const uint64_t bytes = 2 * static_cast<uint64_t>(w.n * row_stride_16bit(w.k));
  args.weights = tensor_map(address_steps(matrix, bytes), w.n, w.k, Tile::kBoxRows);
  launch(device,
         {"gemm",
          static_cast<unsigned>(std::min<int64_t>(tiles_of<Tile>(args), multiprocessors(device))),
          Tile::kThreads,
          Tile::kSharedBytes,
          {{"rows", args.rows}, {"n", args.n}, {"k", args.k}}},
         w.dtype == DType::kBF16 ? gemm_wgmma<Tile, Bf16> : gemm_wgmma<Tile, F16>, args);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(gemm_sm90)(const GemmArgs& args, const Device& device) {
  check(args);
  if (dtype_size(args.w.dtype) != 2) {
    throw Error(ExitCode::kData, "gemm",
                std::string("weights are ") + dtype_name(args.w.dtype) + " (expected BF16 or F16)");
  }
  if (args.rows == 0 || args.w.n == 0) return;
  gpu::Staging staging(device);
  gpu::WgmmaDenseArgs dense{};
  dense.x = args.x16;
  dense.x_index = staging.put(args.x_index, args.rows);
  dense.bias = args.bias;
  dense.out = args.out;
  dense.out_stride = args.out_stride;
  dense.rows = static_cast<int32_t>(args.rows);
  dense.n = static_cast<int32_t>(args.w.n);
  dense.k = static_cast<int32_t>(args.w.k);
  dense.accumulate = args.accumulate;
  dense.pairs = gpu::rows_aligned(args.out, args.out_stride, 8) && args.w.n % 2 == 0;
  if (gpu::tiles_of<gpu::WgmmaTile>(dense) < gpu::multiprocessors(device)) {
    gpu::launch_wgmma<gpu::WgmmaNarrowTile>(device, dense, args.w);
  } else {
    gpu::launch_wgmma<gpu::WgmmaTile>(device, dense, args.w);
  }
}

}  // namespace eep
