// rope.cu - (x[i], x[i + d/2]) -> (x[i] cos - x[i + d/2] sin, x[i + d/2] cos + x[i] sin), in place; a block a
// row, half a warp a head, whose 16 lanes are the virtual lanes of the CPU's sum where heads are normalised
// first. Cosines and sines come from the table that the host made. The bits are the CPU's. Bound by memory:
// reads x (with a norm again, from L1) and writes it.
#include <algorithm>

#include "kernels/gpu/gpu_math.h"
#include "kernels/rope.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256;

// 1 / sqrt(mean(x^2) + eps) of each half of a warp; `count` is 0 in a half that has no head.
__device__ float scale_of_head(const RopeArgs& args, const float* x, int count) {
  float squares = 0;
#pragma unroll 8
  for (int i = threadIdx.x % kVirtualLanes; i < count; i += kVirtualLanes)
    squares = fmaf(x[i], x[i], squares);
  const float mean = sum_virtual_lanes(squares) / static_cast<float>(args.head_dim);
  return 1.0f / sqrtf(mean + args.eps);
}

// block: half a warp for each head of the row, at most kThreads; grid: rows. kNorm: heads are normalised.
template <bool kNorm>
__global__ void __launch_bounds__(kThreads) rotate_rows(const __grid_constant__ RopeArgs args) {
  const int dim = static_cast<int>(args.head_dim), pairs = static_cast<int>(args.rotary_dim / 2),
            heads = static_cast<int>(args.heads);
  const int lane = threadIdx.x % kVirtualLanes, half = threadIdx.x / kVirtualLanes;
  const int64_t row = blockIdx.x;
  const float* const cosine = args.cosine + args.position[row] * int64_t{pairs};
  const float* const sine = args.sine + args.position[row] * int64_t{pairs};
  const int halves = blockDim.x / kVirtualLanes;
  for (int first = 0; first < heads; first += halves) {  // both halves of a warp go on together
    const bool inside = first + half < heads;
    float* const low = args.x + (row * heads + first + half) * args.head_dim;
    float* const high = low + pairs;
    float scale = 1.0f;
    if (kNorm) {
      scale = scale_of_head(args, low, inside ? dim : 0);
      __syncwarp();  // a shuffle orders no memory: every lane has read its part before one writes
    }
#pragma unroll 4
    for (int i = lane; i < (inside ? pairs : 0); i += kVirtualLanes) {
      float a = low[i], b = high[i];
      if (kNorm) {
        a = a * scale * args.norm[i];
        b = b * scale * args.norm[i + pairs];
      }
      const float c = cosine[i], s = sine[i];
      low[i] = fmaf(-b, s, a * c);
      high[i] = fmaf(a, s, b * c);
    }
    if (kNorm) {
      for (int i = 2 * pairs + lane; i < (inside ? dim : 0); i += kVirtualLanes)
        low[i] = low[i] * scale * args.norm[i];
    }
  }
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(rope)(const RopeArgs& args, const Device& device) {
  check(args);
  if (args.rows == 0 || args.heads == 0) return;
  gpu::Staging staging(device);
  RopeArgs staged = args;
  staged.position = staging.put(args.position, args.rows);
  if (staged.rotary_dim == 0) staged.rotary_dim = args.head_dim;
  gpu::launch(device,
              {.op = "rope",
               .blocks = gpu::blocks_for(args.rows, 1),
               .threads = static_cast<unsigned>(std::min<int64_t>((args.heads + 1) / 2 * 32, gpu::kThreads)),
               .shapes = {{"rows", args.rows}, {"heads", args.heads}, {"head_dim", args.head_dim}}},
              args.norm != nullptr ? gpu::rotate_rows<true> : gpu::rotate_rows<false>, staged);
}

}  // namespace eep
