// noise.cu - synthetic weights from Philox4x32-10 (noise.h): a thread a block of four words. Bound by the
// writes.
#include "kernels/gpu/gpu_math.h"
#include "kernels/noise.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256;

struct Words {
  uint32_t word[4];
};

__device__ Words philox_words(Words c, uint64_t key) {
  uint32_t key_low = static_cast<uint32_t>(key), key_high = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint32_t a_high = __umulhi(0xD2511F53u, c.word[0]), a_low = 0xD2511F53u * c.word[0];
    const uint32_t b_high = __umulhi(0xCD9E8D57u, c.word[2]), b_low = 0xCD9E8D57u * c.word[2];
    c = {{b_high ^ c.word[1] ^ key_low, b_low, a_high ^ c.word[3] ^ key_high, a_low}};
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return c;
}

__global__ void __launch_bounds__(kThreads) fill(const __grid_constant__ NoiseArgs args) {
  const int64_t block = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (4 * block >= args.count) return;
  const uint64_t at = static_cast<uint64_t>(block + args.first / 4);
  const Words words =
      philox_words({{static_cast<uint32_t>(at), static_cast<uint32_t>(at >> 32), args.stream, 0}}, args.seed);
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const int64_t i = 4 * block + w;
    if (i >= args.count) break;
    const float uniform = fmaf(static_cast<float>(words.word[w]), 0x1p-32f, 0x1p-33f);
    const float value = fmaf(2.0f, uniform, -1.0f) * args.scale;
    switch (args.dtype) {
      case DType::kBF16:
        static_cast<__nv_bfloat16*>(args.out)[i] = __float2bfloat16(value);
        break;
      case DType::kF16:
        static_cast<__half*>(args.out)[i] = __float2half(value);
        break;
      default:
        static_cast<float*>(args.out)[i] = value;
    }
  }
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(noise)(const NoiseArgs& args, const Device& device) {
  check(args);
  if (args.count == 0) return;
  gpu::launch(device,
              {.op = "noise",
               .blocks = gpu::blocks_for(args.count, 4 * gpu::kThreads),
               .threads = gpu::kThreads,
               .shapes = {{"count", args.count}}},
              gpu::fill, args);
}

}  // namespace eep
