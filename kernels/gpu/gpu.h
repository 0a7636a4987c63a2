// gpu.h - the one place where a kernel file meets its machine. X.cu is compiled twice: by nvcc for the GPU,
// where GPU_OP(X) is X_cuda, and as plain C++ over simt/, where it is X_simt and every kernel runs on the
// host. Code that is not an op lies in namespace gpu, whose real name differs between the two, so that one
// program may hold both.
//
//   namespace eep {
//   namespace EEP_GPU_NS { namespace { ... kernels ... } }
//   void GPU_OP(router)(const RouterArgs& args, const Device& device) { ... gpu::launch(...); }
//   }
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/common/device.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define EEP_GPU_NS gpu_cuda
#define GPU_OP(name) name##_cuda
#else
#include <memory>
#include <vector>

#include "kernels/simt/calls.h"
#include "kernels/simt/cuda.h"
#include "kernels/simt/stream.h"
#define EEP_GPU_NS gpu_simt
#define GPU_OP(name) name##_simt
#endif

namespace eep {
namespace EEP_GPU_NS {

inline constexpr size_t kScratchBytes = size_t{16} << 20;  // most that one table or scratch may take

struct Shape {
  const char* name;
  int64_t extent;
};

struct Launch {
  const char* op;  // in messages
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;                   // dynamic
  std::initializer_list<Shape> shapes = {};  // in messages
};

// The op's name over its launch, for profilers (gpu_range.h).
class OpRange {
 public:
  explicit OpRange(const char* op);
  ~OpRange();
  OpRange(const OpRange&) = delete;
  OpRange& operator=(const OpRange&) = delete;
};

// "gemm: WHAT (rows 3, n 8; 1x1x1 blocks of 128 threads, 0 bytes of shared memory)"
template <typename Shapes>
[[noreturn]] void fail_launch(const Launch& launch, const Shapes& shapes, const std::string& what) {
  std::string where;
  for (const Shape& shape : shapes)
    where += std::string(shape.name) + " " + std::to_string(shape.extent) + ", ";
  if (!where.empty()) where.replace(where.size() - 2, 2, "; ");
  const dim3 b = launch.blocks, t = launch.threads;
  where += std::to_string(b.x) + "x" + std::to_string(b.y) + "x" + std::to_string(b.z) + " blocks of " +
           std::to_string(t.x * t.y * t.z) + " threads, " + std::to_string(launch.shared_bytes) +
           " bytes of shared memory";
  throw Error(ExitCode::kRuntime, launch.op, what + " (" + where + ")");
}

#ifdef __CUDACC__

inline void check(cudaError_t status, const char* where) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the failure is not the next call's
  const ExitCode code = ExitCode::kRuntime;
  throw Error(code, where, std::string("CUDA says \"") + cudaGetErrorString(status) + "\"");
}

// What no exception can report, since it happens where memory is given back: kept, and thrown by the next
// launch or wait of the device under its own name.
struct Unreported {
  cudaError_t status = cudaSuccess;
  const char* where = "";
  void note(cudaError_t result, const char* place) {
    if (result == cudaSuccess) return;
    cudaGetLastError();  // the failure is not the next call's
    if (status == cudaSuccess) status = result, where = place;
  }
  void report() {
    const cudaError_t result = status;
    status = cudaSuccess;
    check(result, where);
  }
};

// Pinned host memory and device memory of equal size, in segments that are used in turn. A segment is filled
// again when the copies from it are over, for which an event stands; the stream's own order protects the
// device's half.
struct StagingRing {
  static constexpr int kSegments = 4;
  static constexpr size_t kSegmentBytes = kScratchBytes;
  char* host = nullptr;
  char* device = nullptr;
  cudaEvent_t copied[kSegments] = {};
  int segment = 0;
  size_t used = 0;  // of the segment
  size_t due_begin = 0,
         due_end = 0;  // tables whose copy to the device is due: it goes before the next launch
  const char* last_launch = nullptr;  // op, for messages
  Unreported unreported;
};

inline void copy_tables(const Device& device) {
  if (device.staging == nullptr) return;
  StagingRing& ring = *static_cast<StagingRing*>(device.staging);
  if (ring.due_begin == ring.due_end) return;
  const size_t begin = ring.due_begin, bytes = ring.due_end - begin;
  ring.due_begin = ring.due_end = 0;
  check(cudaMemcpyAsync(ring.device + begin, ring.host + begin, bytes, cudaMemcpyHostToDevice,
                        static_cast<cudaStream_t>(device.stream)),
        "staging");
}

template <typename T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}

template <typename... P, typename... A>
void launch(const Device& device, const Launch& launch, void (*kernel)(P...), const A&... args) {
  const OpRange range(launch.op);
  if (device.staging != nullptr) static_cast<StagingRing*>(device.staging)->unreported.report();
  copy_tables(device);
  if (launch.shared_bytes > 48 << 10) {
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(launch.shared_bytes));
    if (status != cudaSuccess) {
      cudaGetLastError();
      fail_launch(launch, launch.shapes, cudaGetErrorString(status));
    }
  }
  cudaLaunchConfig_t config{};
  config.gridDim = launch.blocks;
  config.blockDim = launch.threads;
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = static_cast<cudaStream_t>(device.stream);
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, args...);
  if (status != cudaSuccess) {
    cudaGetLastError();
    fail_launch(launch, launch.shapes, cudaGetErrorString(status));
  }
  if (device.staging != nullptr) static_cast<StagingRing*>(device.staging)->last_launch = launch.op;
}

#else

// The tables of an op are one copy, counted before its first launch.
inline bool tables_due = false;
inline void copy_tables(const Device&) {
  simt::calls.copies += tables_due;
  tables_due = false;
}

template <typename T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(simt::block->shared);
}

template <typename... P, typename... A>
void launch(const Device& device, const Launch& launch, void (*kernel)(P...), const A&... args) {
  const OpRange range(launch.op);
  copy_tables(device);
  ++simt::calls.launches;
  const dim3 blocks = launch.blocks, threads = launch.threads;
  const size_t shared_bytes = launch.shared_bytes;
  const auto run = [=, op = launch.op, shapes = std::vector<Shape>(launch.shapes)] {
    try {
      simt::launch(kernel, blocks, threads, shared_bytes, args...);
    } catch (const std::exception& error) {
      fail_launch({op, blocks, threads, shared_bytes}, shapes, error.what());
    }
  };
  if (device.stream == nullptr) return run();
  static_cast<simt::Stream*>(device.stream)->add(run);
}

#endif

// Takes small arrays of the host to the device: put() gives a device pointer that is good for the launches
// made on this device's stream while the Staging lives. What is put one after the other lies one after the
// other and is one copy, given to the stream before the next launch. On the host executor a plain copy each,
// of exactly that size.
class Staging {
 public:
  explicit Staging(const Device& device) : device_(device) {}
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  template <typename T>
  const T* put(const T* values, int64_t count) {  // null stays null
    if (values == nullptr || count == 0) return nullptr;
    return reinterpret_cast<const T*>(put_bytes(values, static_cast<size_t>(count) * sizeof(T)));
  }
  // Device memory for what one launch of an op leaves to the next, not initialised.
  template <typename T>
  T* scratch(int64_t count) {
    return reinterpret_cast<T*>(scratch_bytes(static_cast<size_t>(count) * sizeof(T)));
  }

#ifdef __CUDACC__
  // A copy of `values` in the ring's pinned half: for a copy to somewhere else on the device.
  const void* pinned(const void* values, size_t bytes) {
    const size_t at = reserve(bytes);
    char* const host = static_cast<StagingRing*>(device_.staging)->host + at;
    __builtin_memcpy(host, values, bytes);
    return host;
  }

 private:
  size_t reserve(size_t bytes) {  // offset into both halves of the ring
    StagingRing& ring = *static_cast<StagingRing*>(device_.staging);
    taken_ += bytes;
    if (bytes > kScratchBytes || taken_ > (StagingRing::kSegments - 2) * StagingRing::kSegmentBytes)
      throw Error(ExitCode::kRuntime, "staging",
                  "the tables of one op are too large" +
                      expected_got("at most " + std::to_string(kScratchBytes) + " bytes each", bytes));
    if (ring.used + bytes > StagingRing::kSegmentBytes) {
      copy_tables(device_);
      check(cudaEventRecord(ring.copied[ring.segment], static_cast<cudaStream_t>(device_.stream)), "staging");
      ring.segment = (ring.segment + 1) % StagingRing::kSegments;
      ring.used = 0;
      check(cudaEventSynchronize(ring.copied[ring.segment]), "staging");
    }
    const size_t at = static_cast<size_t>(ring.segment) * StagingRing::kSegmentBytes + ring.used;
    ring.used += rounded(bytes);
    return at;
  }
  static size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }
  const void* put_bytes(const void* values, size_t bytes) {
    StagingRing& ring = *static_cast<StagingRing*>(device_.staging);
    const size_t at = reserve(bytes);
    __builtin_memcpy(ring.host + at, values, bytes);
    if (ring.due_begin == ring.due_end || rounded(ring.due_end) != at) {  // scratch lies between
      copy_tables(device_);
      ring.due_begin = at;
    }
    ring.due_end = at + bytes;
    return ring.device + at;
  }
  void* scratch_bytes(size_t bytes) {
    return static_cast<StagingRing*>(device_.staging)->device + reserve(bytes);
  }

  size_t taken_ = 0;
  const Device& device_;
#else
  ~Staging() {
    if (device_.stream != nullptr && !copies_.empty())
      static_cast<simt::Stream*>(device_.stream)->add([copies = copies_] { (void)copies; });
  }

 private:
  const void* put_bytes(const void* values, size_t bytes) {
    if (scratch_last_) copy_tables(device_);
    void* const copy = scratch_bytes(bytes);
    std::memcpy(copy, values, bytes);
    scratch_last_ = false;
    tables_due = true;
    return copy;
  }
  void* scratch_bytes(size_t bytes) {
    if (bytes > kScratchBytes)
      throw Error(ExitCode::kRuntime, "staging", "the tables of one op are too large");
    copies_.push_back(std::shared_ptr<char[]>(new char[bytes]));
    std::memset(copies_.back().get(), 0xff, bytes);
    scratch_last_ = true;
    return copies_.back().get();
  }

  const Device& device_;
  std::vector<std::shared_ptr<char[]> > copies_;
  bool scratch_last_ = false;
#endif
};

}  // namespace EEP_GPU_NS

namespace gpu = EEP_GPU_NS;

}  // namespace eep
