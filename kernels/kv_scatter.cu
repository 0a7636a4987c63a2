// kv_scatter.cu - rows of keys and values to their places in the caches, a block a row, its first half the
// keys, its second the values. One launch a layer, however many sequences a decoding step has. Bound by
// memory: 4 width floats a row.
#include "kernels/gpu/gpu_math.h"
#include "kernels/kv_scatter.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) scatter_rows(const __grid_constant__ KvScatterArgs args) {
  const int64_t row = blockIdx.x;
  const bool values = threadIdx.x >= kThreads / 2;
  const float* const from = (values ? args.v : args.k) + row * args.width;
  float* const to = values ? args.to[row].v : args.to[row].k;
  for (int64_t i = threadIdx.x % (kThreads / 2); i < args.width; i += kThreads / 2) to[i] = from[i];
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(kv_scatter)(const KvScatterArgs& args, const Device& device) {
  check(args);
  if (args.rows == 0) return;
  gpu::Staging staging(device);
  KvScatterArgs staged = args;
  staged.to = staging.put(args.to, args.rows);
  gpu::launch(device,
              {.op = "kv_scatter",
               .blocks = gpu::blocks_for(args.rows, 1),
               .threads = gpu::kThreads,
               .shapes = {{"rows", args.rows}, {"width", args.width}}},
              gpu::scatter_rows, staged);
}

}  // namespace eep
