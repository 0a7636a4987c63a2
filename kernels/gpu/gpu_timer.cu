// gpu_timer on CUDA, by events, and on the host executor, by the clock.
#include <chrono>

#include "kernels/common/timer.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_memory.h"

namespace eep {

#ifdef __CUDACC__

double seconds_cuda(const std::function<void()>& work, const Device& device) {
  const auto stream = static_cast<cudaStream_t>(device.stream);
  cudaEvent_t begin = nullptr, end = nullptr;
  gpu::check(cudaEventCreate(&begin), "timer");
  gpu::check(cudaEventCreate(&end), "timer");
  gpu::check(cudaEventRecord(begin, stream), "timer");
  work();
  gpu::check(cudaEventRecord(end, stream), "timer");
  gpu::check(cudaEventSynchronize(end), "timer");
  float milliseconds = 0;
  gpu::check(cudaEventElapsedTime(&milliseconds, begin, end), "timer");
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return 1e-3 * static_cast<double>(milliseconds);
}

#else

double seconds_simt(const std::function<void()>& work, const Device& device) {
  synchronize_simt(device);
  const auto begin = std::chrono::steady_clock::now();
  work();
  synchronize_simt(device);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

#endif

}  // namespace eep
