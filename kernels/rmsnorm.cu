// rmsnorm.cu - y = x / sqrt(mean(x^2) + eps) * weight, half a warp a row: its 16 lanes are the virtual lanes
// of the CPU's sum, so the bits are the CPU's. Bound by memory: reads x twice (the second time from L1, eight
// elements a lane), writes it once, in f32, in 16 bits for the products that follow, or both.
#include "kernels/gpu/gpu_math.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/rmsnorm.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsPerBlock = kThreads / kVirtualLanes;

// block: kThreads; grid: rows / kRowsPerBlock, rounded up. vectors: rows of x, weight and out start at 16
// bytes.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    normalise_rows(const __grid_constant__ RmsNormArgs args, bool vectors) {
  const int lane = threadIdx.x % kVirtualLanes;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kVirtualLanes;
  const int dim = row < args.rows ? static_cast<int>(args.dim) : 0;  // the warp sums together, others bring 0
  const float* const x = args.x + row * args.dim;
  float squares = 0;
#pragma unroll 8
  for (int i = lane; i < dim; i += kVirtualLanes) squares = fmaf(x[i], x[i], squares);
  const float mean = sum_virtual_lanes(squares) / static_cast<float>(args.dim);
  const float scale = 1.0f / sqrtf(mean + args.eps);
  __syncwarp();  // in place, a lane writes what others have read

  float* const out = args.out == nullptr ? nullptr : args.out + row * args.dim;
  uint16_t* const out16 = args.out16 == nullptr ? nullptr : args.out16 + row * row_stride_16bit(args.dim);
#pragma unroll 2
  for (int at = 8 * lane; at < dim; at += 8 * kVirtualLanes) {
    float v[8], weight[8];
    load_eight(x, at, dim, vectors, v);
    load_eight(args.weight, at, dim, vectors, weight);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = v[i] * scale * weight[i];
    if (out != nullptr && vectors && at + 8 <= dim) {
      store_vector(out + at, float4{v[0], v[1], v[2], v[3]});
      store_vector(out + at + 4, float4{v[4], v[5], v[6], v[7]});
    } else if (out != nullptr) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (at + i < dim) out[at + i] = v[i];
      }
    }
    if (out16 != nullptr) {
      st_global_v4(out16 + at, {Half::pack(v[0], v[1]), Half::pack(v[2], v[3]), Half::pack(v[4], v[5]),
                                Half::pack(v[6], v[7])});
    }
  }
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(rmsnorm)(const RmsNormArgs& args, const Device& device) {
  check(args);
  if (args.rows == 0) return;
  bool vectors = args.dim % 4 == 0;
  for (const float* rows : {args.x, args.weight, static_cast<const float*>(args.out)})
    vectors = vectors && reinterpret_cast<uintptr_t>(rows) % 16 == 0;
  gpu::launch(device,
              {.op = "rmsnorm",
               .blocks = gpu::blocks_for(args.rows, gpu::kRowsPerBlock),
               .threads = gpu::kThreads,
               .shapes = {{"rows", args.rows}, {"dim", args.dim}}},
              args.dtype16 == DType::kF16 ? gpu::normalise_rows<gpu::F16> : gpu::normalise_rows<gpu::Bf16>,
              args, vectors);
}

}  // namespace eep
