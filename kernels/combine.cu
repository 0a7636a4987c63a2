// combine.cu - residual[row] += sum_j weight[row, j] slot_out[row slots + j] (+ the shared expert), a block a
// row, a thread an element: one chain of fused multiply-adds in slot order, so no atomics and the CPU's bits.
// Bound by memory: (slots + 2) reads and a write of hidden floats a row.
#include "kernels/combine.h"
#include "kernels/gpu_math.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) combine_rows(const __grid_constant__ CombineArgs args) {
  const int64_t row = blockIdx.x;
  const float gate = args.shared_gate != nullptr ? sigmoid(args.shared_gate[row]) : 1.0f;
  for (int64_t i = threadIdx.x; i < args.hidden; i += kThreads) {
    float sum = 0;
    for (int64_t slot = row * args.slots; slot < (row + 1) * args.slots; ++slot) {
      if (args.expert[slot] < 0) continue;
      const int64_t source = args.slot_row != nullptr ? args.slot_row[slot] : slot;
      sum = fmaf(args.weight[slot], args.slot_out[source * args.hidden + i], sum);
    }
    if (args.shared_out != nullptr) sum = fmaf(gate, args.shared_out[row * args.hidden + i], sum);
    args.residual[row * args.hidden + i] += sum;
  }
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(combine)(const CombineArgs& args, const Device& device) {
  if (args.rows == 0) return;
  gpu::launch(device,
              {.op = "combine",
               .blocks = gpu::blocks_for(args.rows, 1),
               .threads = gpu::kThreads,
               .shapes = {{"rows", args.rows}, {"slots", args.slots}, {"hidden", args.hidden}}},
              gpu::combine_rows, args);
}

}  // namespace eep
