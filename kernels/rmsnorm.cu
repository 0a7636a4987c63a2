// rmsnorm.cu - y = x / sqrt(mean(x^2) + eps) * weight, half a warp a row: its 16 lanes are the virtual lanes
// of the CPU's sum, so the bits are the CPU's. Bound by memory: reads x twice (the second time from L1),
// writes it once.
#include "kernels/gpu_math.h"
#include "kernels/rmsnorm.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsPerBlock = kThreads / kVirtualLanes;

// block: kThreads; grid: rows / kRowsPerBlock, rounded up.
__global__ void __launch_bounds__(kThreads) normalise_rows(const __grid_constant__ RmsNormArgs args) {
  const int lane = threadIdx.x % kVirtualLanes;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kVirtualLanes;
  const int64_t dim = row < args.rows ? args.dim : 0;  // the warp sums together, rows beyond bring zeros
  const float* const x = args.x + row * args.dim;
  float squares = 0;
#pragma unroll 8
  for (int64_t i = lane; i < dim; i += kVirtualLanes) squares = fmaf(x[i], x[i], squares);
  const float mean = sum_virtual_lanes(squares) / static_cast<float>(args.dim);
  const float scale = 1.0f / sqrtf(mean + args.eps);
  float* const out = args.out + row * args.dim;
#pragma unroll 8
  for (int64_t i = lane; i < dim; i += kVirtualLanes) out[i] = x[i] * scale * args.weight[i];
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(rmsnorm)(const RmsNormArgs& args, const Device& device) {
  if (args.rows == 0) return;
  gpu::launch(device,
              {.op = "rmsnorm",
               .blocks = gpu::blocks_for(args.rows, gpu::kRowsPerBlock),
               .threads = gpu::kThreads,
               .shapes = {{"rows", args.rows}, {"dim", args.dim}}},
              gpu::normalise_rows, args);
}

}  // namespace eep
