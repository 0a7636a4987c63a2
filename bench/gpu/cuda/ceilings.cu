#include <cuda_runtime.h>

#include "bench/gpu/cuda/ceilings.h"
#include "kernels/common/error.h"
#include "kernels/gpu/ptx.h"
#include "kernels/gpu/ptx_sm90.h"

namespace eep::bench {
namespace {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw Error(ExitCode::kRuntime, what, std::string("CUDA says \"") + cudaGetErrorString(status) + "\"");
}

int attribute(cudaDeviceAttr name, const Device& device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, device.index), "cudaDeviceGetAttribute");
  return value;
}

// Two bf16 of any sign with magnitudes from 0.5 to 1: random data draws the power that real data draws.
__device__ uint32_t random_pair(uint32_t i) {
  i = (i ^ i >> 16) * 0x7feb352du;
  i = (i ^ i >> 15) * 0x846ca68bu;
  return ((i ^ i >> 16) & 0x807f807fu) | 0x3f003f00u;
}

constexpr int kReadThreads = 1024, kReadAtOnce = 4;

__global__ void __launch_bounds__(kReadThreads) l2_read(const uint4* buffer, int pieces, uint32_t* sink) {
  uint32_t sum = 0;
  const int stride = kReadThreads * kReadAtOnce;
  // blocks begin at different places, so that they do not ask for one line together
  const int first = static_cast<int>(int64_t{blockIdx.x} * pieces / gridDim.x / stride * stride);
  for (int at = 0; at < pieces; at += stride) {
    const int from = (first + at) % pieces + static_cast<int>(threadIdx.x);
    uint4 value[kReadAtOnce];
#pragma unroll
    for (int i = 0; i < kReadAtOnce; ++i) value[i] = __ldcg(buffer + from + i * kReadThreads);
#pragma unroll
    for (int i = 0; i < kReadAtOnce; ++i) sum ^= value[i].x ^ value[i].y ^ value[i].z ^ value[i].w;
  }
  if (sum == 0x12345678u) *sink = sum;
}

constexpr int kMmaThreads = 256, kMmaChains = 8, kMmaSteps = 2048;

__global__ void __launch_bounds__(kMmaThreads) mma_peak(float* sink) {
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = random_pair(8 * threadIdx.x + i);
  for (int i = 0; i < 2; ++i) b[i] = random_pair(8 * threadIdx.x + 4 + i);
  float d[kMmaChains][4] = {};
#pragma unroll 4
  for (int step = 0; step < kMmaSteps; ++step) {
#pragma unroll
    for (int chain = 0; chain < kMmaChains; ++chain) mma_bf16(d[chain], a, b);
  }
  float sum = 0;
  for (int chain = 0; chain < kMmaChains; ++chain)
    sum += d[chain][0] + d[chain][1] + d[chain][2] + d[chain][3];
  if (sum == 12345.678f) *sink = sum;
}

constexpr int kWgmmaThreads = 256, kWgmmaSteps = 512, kWgmmaAtOnce = 4;  // of four products each
constexpr int kWgmmaBytes =
    2 * 64 * 128 + 256 * 128 + 1024;  // an A a warpgroup, one B, and room to align them

__global__ void __launch_bounds__(kWgmmaThreads, 1) wgmma_peak(float* sink) {
#ifdef EEP_SM90A
  extern __shared__ unsigned char bytes[];
  const uint32_t misaligned = shared_address(bytes) % 1024;
  unsigned char* const tiles = bytes + (misaligned == 0 ? 0 : 1024 - misaligned);
  for (int i = threadIdx.x; i < (kWgmmaBytes - 1024) / 4; i += kWgmmaThreads)
    reinterpret_cast<uint32_t*>(tiles)[i] = random_pair(i);
  fence_proxy_async();
  __syncthreads();
  const uint64_t a = wgmma_descriptor(tiles + threadIdx.x / 128 * 64 * 128),
                 b = wgmma_descriptor(tiles + 2 * 64 * 128);
  float d[32][4];
  for (auto& row : d)
    for (float& value : row) value = 0;
  for (int step = 0; step < kWgmmaSteps; ++step) {
    wgmma_fence();
#pragma unroll
    for (int part = 0; part < 4 * kWgmmaAtOnce; ++part)
      wgmma_bf16(d, a + 2 * (part % 4), b + 2 * (part % 4), 1);
    wgmma_commit();
    wgmma_wait<0>();
  }
  float sum = 0;
  for (auto& row : d)
    for (float& value : row) sum += value;
  if (sum == 12345.678f) *sink = sum;
#endif
}

}  // namespace

double l2_read_cuda(const void* buffer, size_t bytes, void* sink, const Device& device) {
  const int blocks = attribute(cudaDevAttrMultiProcessorCount, device);
  const int step = kReadThreads * kReadAtOnce, pieces = static_cast<int>(bytes / sizeof(uint4)) / step * step;
  l2_read<<<blocks, kReadThreads, 0, static_cast<cudaStream_t>(device.stream)>>>(
      static_cast<const uint4*>(buffer), pieces, static_cast<uint32_t*>(sink));
  check(cudaGetLastError(), "l2_read");
  return 16.0 * pieces * blocks;
}

double mma_peak_cuda(void* sink, const Device& device) {
  const int blocks = 2 * attribute(cudaDevAttrMultiProcessorCount, device);
  mma_peak<<<blocks, kMmaThreads, 0, static_cast<cudaStream_t>(device.stream)>>>(static_cast<float*>(sink));
  check(cudaGetLastError(), "mma_peak");
  return 2.0 * 16 * 8 * 16 * kMmaChains * kMmaSteps * (kMmaThreads / 32) * blocks;
}

double wgmma_peak_cuda(void* sink, const Device& device) {
  if (attribute(cudaDevAttrComputeCapabilityMajor, device) != 9) return 0;
  const int blocks = attribute(cudaDevAttrMultiProcessorCount, device);
  check(cudaFuncSetAttribute(wgmma_peak, cudaFuncAttributeMaxDynamicSharedMemorySize, kWgmmaBytes),
        "wgmma_peak");
  wgmma_peak<<<blocks, kWgmmaThreads, kWgmmaBytes, static_cast<cudaStream_t>(device.stream)>>>(
      static_cast<float*>(sink));
  check(cudaGetLastError(), "wgmma_peak");
  return 2.0 * 64 * 256 * 16 * 4 * kWgmmaAtOnce * kWgmmaSteps * (kWgmmaThreads / 128) * blocks;
}

}  // namespace eep::bench
