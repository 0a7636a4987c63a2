#include <curand_kernel.h>

#include "bench/gpu/cuda/twins.h"
#include "kernels/common/error.h"

namespace eep::bench {
namespace {

__global__ void words_of(uint32_t* words, int64_t blocks, uint64_t seed, uint32_t stream) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= blocks) return;
  curandStatePhilox4_32_10_t state;
  curand_init(seed, stream, 4 * static_cast<uint64_t>(i), &state);
  const uint4 word = curand4(&state);
  words[4 * i] = word.x;
  words[4 * i + 1] = word.y;
  words[4 * i + 2] = word.z;
  words[4 * i + 3] = word.w;
}

}  // namespace

void curand_words_cuda(uint32_t* words, int64_t blocks, uint64_t seed, uint32_t stream,
                       const Device& device) {
  words_of<<<static_cast<unsigned>((blocks + 255) / 256), 256, 0, static_cast<cudaStream_t>(device.stream)>>>(
      words, blocks, seed, stream);
  if (cudaGetLastError() != cudaSuccess) throw Error(ExitCode::kRuntime, "cuRAND", "the launch failed");
}

}  // namespace eep::bench
