// clamp.cu - an element a thread. Bound by memory: 8 bytes an element.
#include "kernels/clamp.h"
#include "kernels/gpu/gpu_math.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256;

// block: kThreads; grid: all elements.
__global__ void __launch_bounds__(kThreads) clamp_elements(const __grid_constant__ ClampArgs args) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.count) return;
  const float value = args.x[i];
  args.x[i] = value < -args.limit ? -args.limit : value > args.limit ? args.limit : value;
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(clamp)(const ClampArgs& args, const Device& device) {
  check(args);
  if (args.count == 0) return;
  gpu::launch(device,
              {.op = "clamp",
               .blocks = gpu::blocks_for(args.count, gpu::kThreads),
               .threads = gpu::kThreads,
               .shapes = {{"count", args.count}}},
              gpu::clamp_elements, args);
}

}  // namespace eep
