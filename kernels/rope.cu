// rope.cu - (x[i], x[i + d/2]) -> (x[i] cos - x[i + d/2] sin, x[i + d/2] cos + x[i] sin), in place; a block a
// row, a thread a pair. Cosines and sines come from the table that the host made, so the bits are the CPU's.
#include "kernels/gpu_math.h"
#include "kernels/rope.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) rotate_rows(const __grid_constant__ RopeArgs args) {
  const int64_t pairs = args.head_dim / 2, row = blockIdx.x;
  const float* const cosine = args.cosine + args.position[row] * pairs;
  const float* const sine = args.sine + args.position[row] * pairs;
  for (int64_t at = threadIdx.x; at < args.heads * pairs; at += kThreads) {
    const int64_t head = at / pairs, i = at % pairs;
    float* const low = args.x + (row * args.heads + head) * args.head_dim + i;
    float* const high = low + pairs;
    const float a = *low, b = *high, c = cosine[i], s = sine[i];
    *low = fmaf(-b, s, a * c);
    *high = fmaf(a, s, b * c);
  }
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(rope)(const RopeArgs& args, const Device& device) {
  if (args.rows == 0) return;
  gpu::Staging staging(device);
  RopeArgs staged = args;
  staged.position = staging.put(args.position, args.rows);
  gpu::launch(device,
              {.op = "rope",
               .blocks = gpu::blocks_for(args.rows, 1),
               .threads = gpu::kThreads,
               .shapes = {{"rows", args.rows}, {"heads", args.heads}, {"head_dim", args.head_dim}}},
              gpu::rotate_rows, staged);
}

}  // namespace eep
