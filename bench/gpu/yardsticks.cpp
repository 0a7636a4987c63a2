#include "bench/gpu/yardsticks.h"

#include "kernels/error.h"
#include "kernels/gpu_timer.h"

#ifdef EEP_CUBLAS
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#endif

namespace eep::bench {

#ifdef EEP_CUBLAS

namespace {

void check(bool good, const char* what) {
  if (!good) throw Error(ExitCode::kRuntime, "yardstick", std::string(what) + " failed");
}

cublasHandle_t handle_of(const Device& device) {
  static cublasHandle_t handle = [] {
    cublasHandle_t made = nullptr;
    check(cublasCreate(&made) == CUBLAS_STATUS_SUCCESS, "cublasCreate");
    return made;
  }();
  check(cublasSetStream(handle, static_cast<cudaStream_t>(device.stream)) == CUBLAS_STATUS_SUCCESS,
        "cublasSetStream");
  return handle;
}

}  // namespace

bool cublas_here(const Device& device) { return device.kind == DeviceKind::kCuda; }

void cublas_product(const void* x, const void* w, void* out, int64_t rows, int64_t n, int64_t k,
                    const Device& device) {
  const float one = 1, zero = 0;
  // Column-major: out^T[n, rows] = w[k, n]^T x[k, rows].
  check(cublasGemmEx(handle_of(device), CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(rows),
                     static_cast<int>(k), &one, w, CUDA_R_16BF, static_cast<int>(k), x, CUDA_R_16BF,
                     static_cast<int>(k), &zero, out, CUDA_R_32F, static_cast<int>(n), CUBLAS_COMPUTE_32F,
                     CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS,
        "cublasGemmEx");
}

double pinned_upload_rate(void* to, size_t bytes, const Device& device) {
  if (device.kind != DeviceKind::kCuda) return 0;
  void* from = nullptr;
  check(cudaMallocHost(&from, bytes) == cudaSuccess, "cudaMallocHost");
  const auto stream = static_cast<cudaStream_t>(device.stream);
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const double seconds = seconds_cuda(
        [&] {
          check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream) == cudaSuccess,
                "cudaMemcpyAsync");
        },
        device);
    if (seconds < best) best = seconds;
  }
  cudaFreeHost(from);
  return static_cast<double>(bytes) / best;
}

#else

bool cublas_here(const Device&) { return false; }
void cublas_product(const void*, const void*, void*, int64_t, int64_t, int64_t, const Device&) {
  throw Error(ExitCode::kRuntime, "yardstick", "cuBLAS is not part of this build");
}
double pinned_upload_rate(void*, size_t, const Device&) { return 0; }

#endif

}  // namespace eep::bench
