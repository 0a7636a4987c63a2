#include "bench/gpu/yardsticks.h"

#include <vector>

#include "kernels/error.h"
#include "kernels/gpu_timer.h"

#ifdef EEP_CUBLAS
#include <cublasLt.h>
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

std::string cublas_batches(const void* x, const void* w, void* out, int64_t n, int64_t k,
                           const Device& device) {
  if (device.kind != DeviceKind::kCuda) return "-";
  constexpr int64_t kRows = 4096;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS, "cublasLtCreate");
  check(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS,
        "cublasLtMatmulDescCreate");
  check(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof transposed) == CUBLAS_STATUS_SUCCESS,
        "CUBLASLT_MATMUL_DESC_TRANSA");
  check(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS,
        "cublasLtMatmulPreferenceCreate");
  const auto layout = [](cudaDataType_t type, int64_t rows, int64_t columns) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns),
                                     rows) == CUBLAS_STATUS_SUCCESS,
          "cublasLtMatrixLayoutCreate");
    return made;
  };
  const cublasLtMatrixLayout_t weights = layout(CUDA_R_16BF, k, n);
  cublasLtMatmulHeuristicResult_t found{};
  const auto multiply = [&](int64_t rows, float* to) {  // without a workspace: no split of k
    const cublasLtMatrixLayout_t in = layout(CUDA_R_16BF, k, rows), made = layout(CUDA_R_32F, n, rows);
    int count = 1;
    if (rows == kRows) {
      check(cublasLtMatmulAlgoGetHeuristic(handle, product, weights, in, made, made, preference, 1, &found,
                                           &count) == CUBLAS_STATUS_SUCCESS &&
                count == 1,
            "cublasLtMatmulAlgoGetHeuristic");
    }
    const float one = 1, zero = 0;
    const bool good =
        cublasLtMatmul(handle, product, &one, w, weights, x, in, &zero, to, made, to, made, &found.algo,
                       nullptr, 0, static_cast<cudaStream_t>(device.stream)) == CUBLAS_STATUS_SUCCESS;
    cublasLtMatrixLayoutDestroy(in);
    cublasLtMatrixLayoutDestroy(made);
    return good;
  };
  auto* const whole = static_cast<float*>(out);
  std::string verdict = multiply(kRows, whole) ? "same bits" : "refused";
  for (int64_t rows : {int64_t{1}, int64_t{64}}) {
    float* const part = whole + kRows * n;
    if (!multiply(rows, part)) {
      verdict = "refused";
      break;
    }
    std::vector<uint32_t> a(static_cast<size_t>(rows * n)), b(a.size());
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(device.stream)) == cudaSuccess,
          "cudaStreamSynchronize");
    check(cudaMemcpy(a.data(), whole, 4 * a.size(), cudaMemcpyDeviceToHost) == cudaSuccess &&
              cudaMemcpy(b.data(), part, 4 * b.size(), cudaMemcpyDeviceToHost) == cudaSuccess,
          "cudaMemcpy");
    if (a != b) verdict = "other bits";
  }
  cublasLtMatrixLayoutDestroy(weights);
  cublasLtMatmulPreferenceDestroy(preference);
  cublasLtMatmulDescDestroy(product);
  cublasLtDestroy(handle);
  return verdict;
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
std::string cublas_batches(const void*, const void*, void*, int64_t, int64_t, const Device&) { return "-"; }
double pinned_upload_rate(void*, size_t, const Device&) { return 0; }

#endif

}  // namespace eep::bench
