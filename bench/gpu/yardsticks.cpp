#include "bench/gpu/yardsticks.h"

#include "kernels/common/error.h"
#include "kernels/common/timer.h"

#if defined(EEP_CUDA_YARDSTICKS) && __has_include(<cublasLt.h>) && __has_include(<cublas_v2.h>)
#define EEP_CUBLAS_HEADERS
#include <cublasLt.h>
#include <cublas_v2.h>
#endif
#ifdef EEP_CUDA_YARDSTICKS
#include <cuda_runtime_api.h>
#endif

#include <dlfcn.h>

#include <vector>

#include "bench/gpu/cublas_library.h"

namespace eep::bench {

#ifdef EEP_CUDA_YARDSTICKS
namespace {

void check(bool good, const char* what) {
  if (!good) throw Error(ExitCode::kRuntime, "yardstick", std::string(what) + " failed");
}

}  // namespace
#endif

#ifdef EEP_CUBLAS_HEADERS

namespace {

// The function of that name in a loaded library; T is its type in the header.
template <typename T>
T* function(void* library, const char* name) {
  auto* const found = reinterpret_cast<T*>(dlsym(library, name));
  check(found != nullptr, name);
  return found;
}
#define EEP_CUBLASLT(name) function<decltype(name)>(cublas_libraries().cublas_lt, #name)

void good(cublasStatus_t status, const char* what) { check(status == CUBLAS_STATUS_SUCCESS, what); }

cublasHandle_t handle_of(const Device& device) {
  void* const library = cublas_libraries().cublas;
  static cublasHandle_t handle = [library] {
    cublasHandle_t made = nullptr;
    good(function<cublasStatus_t(cublasHandle_t*)>(library, "cublasCreate_v2")(&made), "cublasCreate");
    return made;
  }();
  static auto* const set_stream =
      function<cublasStatus_t(cublasHandle_t, cudaStream_t)>(library, "cublasSetStream_v2");
  good(set_stream(handle, static_cast<cudaStream_t>(device.stream)), "cublasSetStream");
  return handle;
}

// x w^T of any number of rows by the one algorithm that cuBLASLt's heuristic names for the first number asked
// for: no split of k, no reduction across blocks, no workspace.
class LtProduct {
 public:
  LtProduct(const void* x, const void* w, int64_t n, int64_t k, const Device& device)
      : x_(x), w_(w), n_(n), k_(k), stream_(static_cast<cudaStream_t>(device.stream)) {
    good(EEP_CUBLASLT(cublasLtCreate)(&handle_), "cublasLtCreate");
    good(EEP_CUBLASLT(cublasLtMatmulDescCreate)(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
         "cublasLtMatmulDescCreate");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    good(EEP_CUBLASLT(cublasLtMatmulDescSetAttribute)(product_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                      sizeof transposed),
         "CUBLASLT_MATMUL_DESC_TRANSA");
    good(EEP_CUBLASLT(cublasLtMatmulPreferenceCreate)(&preference_), "cublasLtMatmulPreferenceCreate");
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    good(EEP_CUBLASLT(cublasLtMatmulPreferenceSetAttribute)(
             preference_, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions),
         "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK");
    weights_ = layout(CUDA_R_16BF, k, n);
  }
  ~LtProduct() {
    EEP_CUBLASLT(cublasLtMatrixLayoutDestroy)(weights_);
    EEP_CUBLASLT(cublasLtMatmulPreferenceDestroy)(preference_);
    EEP_CUBLASLT(cublasLtMatmulDescDestroy)(product_);
    EEP_CUBLASLT(cublasLtDestroy)(handle_);
  }
  LtProduct(const LtProduct&) = delete;
  LtProduct& operator=(const LtProduct&) = delete;

  // Whether the algorithm takes that number of rows. to: [rows, n].
  bool multiply(int64_t rows, float* to) {
    const cublasLtMatrixLayout_t in = layout(CUDA_R_16BF, k_, rows), out = layout(CUDA_R_32F, n_, rows);
    int count = 1;
    if (!chosen_) {
      good(EEP_CUBLASLT(cublasLtMatmulAlgoGetHeuristic)(handle_, product_, weights_, in, out, out,
                                                        preference_, 1, &found_, &count),
           "cublasLtMatmulAlgoGetHeuristic");
      check(count == 1, "cublasLtMatmulAlgoGetHeuristic");
      chosen_ = true;
    }
    const float one = 1, zero = 0;
    const bool taken =
        EEP_CUBLASLT(cublasLtMatmul)(handle_, product_, &one, w_, weights_, x_, in, &zero, to, out, to, out,
                                     &found_.algo, nullptr, 0, stream_) == CUBLAS_STATUS_SUCCESS;
    EEP_CUBLASLT(cublasLtMatrixLayoutDestroy)(in);
    EEP_CUBLASLT(cublasLtMatrixLayoutDestroy)(out);
    return taken;
  }

  std::string algorithm() const {
    const auto attribute = [&](cublasLtMatmulAlgoConfigAttributes_t name) {
      uint32_t value = 0;
      size_t written = 0;
      const size_t bytes = name == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID ? 2 : 4;
      const bool read = EEP_CUBLASLT(cublasLtMatmulAlgoConfigGetAttribute)(&found_.algo, name, &value, bytes,
                                                                           &written) == CUBLAS_STATUS_SUCCESS;
      return read ? std::to_string(value) : std::string("?");
    };
    return "algorithm " + attribute(CUBLASLT_ALGO_CONFIG_ID) + ", tile " +
           attribute(CUBLASLT_ALGO_CONFIG_TILE_ID) + ", stages " + attribute(CUBLASLT_ALGO_CONFIG_STAGES_ID) +
           ", cluster " + attribute(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID) + ", split-k " +
           attribute(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) + ", reduction " +
           attribute(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
  }

 private:
  static cublasLtMatrixLayout_t layout(cudaDataType_t type, int64_t rows, int64_t columns) {
    cublasLtMatrixLayout_t made = nullptr;
    good(EEP_CUBLASLT(cublasLtMatrixLayoutCreate)(&made, type, static_cast<uint64_t>(rows),
                                                  static_cast<uint64_t>(columns), rows),
         "cublasLtMatrixLayoutCreate");
    return made;
  }

  const void *x_, *w_;
  int64_t n_, k_;
  cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatrixLayout_t weights_ = nullptr;
  cublasLtMatmulHeuristicResult_t found_{};
  bool chosen_ = false;
};
#undef EEP_CUBLASLT

}  // namespace

bool cublas_here(const Device& device) {
  return device.kind == DeviceKind::kCuda && cublas_libraries().here();
}

void cublas_product(const void* x, const void* w, void* out, int64_t rows, int64_t n, int64_t k,
                    const Device& device) {
  using Product =
      cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                     const void*, cudaDataType, int, const void*, cudaDataType, int, const void*, void*,
                     cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
  static auto* const product = function<Product>(cublas_libraries().cublas, "cublasGemmEx");
  const float one = 1, zero = 0;
  // Column-major: out^T[n, rows] = w[k, n]^T x[k, rows].
  good(product(handle_of(device), CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(rows),
               static_cast<int>(k), &one, w, CUDA_R_16BF, static_cast<int>(k), x, CUDA_R_16BF,
               static_cast<int>(k), &zero, out, CUDA_R_32F, static_cast<int>(n), CUBLAS_COMPUTE_32F,
               CUBLAS_GEMM_DEFAULT),
       "cublasGemmEx");
}

std::string cublas_batches(const void* x, const void* w, void* out, int64_t n, int64_t k,
                           const Device& device) {
  if (!cublas_here(device)) return "-";
  constexpr int64_t kRows = 4096;
  LtProduct product(x, w, n, k, device);
  auto* const whole = static_cast<float*>(out);
  std::string verdict = product.multiply(kRows, whole) ? "same bits" : "refused";
  for (int64_t rows : {int64_t{1}, int64_t{64}}) {
    float* const part = whole + kRows * n;
    if (!product.multiply(rows, part)) {
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
  return verdict + " (" + product.algorithm() + ")";
}

#else

bool cublas_here(const Device&) { return false; }
void cublas_product(const void*, const void*, void*, int64_t, int64_t, int64_t, const Device&) {
  throw Error(ExitCode::kRuntime, "yardstick", "cuBLAS is not part of this build");
}
std::string cublas_batches(const void*, const void*, void*, int64_t, int64_t, const Device&) { return "-"; }

#endif

#ifdef EEP_CUDA_YARDSTICKS

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

double pinned_upload_rate(void*, size_t, const Device&) { return 0; }

#endif

}  // namespace eep::bench
