// gpu_memory on CUDA and on the host executor, side by side.
#include <cstdio>

#include "kernels/gpu.h"
#include "kernels/gpu_memory.h"

namespace eep {

#ifdef __CUDACC__

namespace {

cudaStream_t stream_of(const Device& device) { return static_cast<cudaStream_t>(device.stream); }

std::string gibibytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

}  // namespace

int device_count_cuda() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // the failure is not the next call's
  return 0;
}

std::string device_text_cuda(int index) {
  cudaDeviceProp properties;
  gpu::check(cudaGetDeviceProperties(&properties, index), "--device cuda");
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor) + ", " + gibibytes(properties.totalGlobalMem);
}

Device open_cuda(int index) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw Error(ExitCode::kRuntime, "--device cuda",
                status == cudaSuccess ? "there is no CUDA device"
                                      : std::string("no usable CUDA device: ") + cudaGetErrorString(status),
                "eep doctor shows the driver and the devices; --device cpu needs neither");
  }
  if (index < 0 || index >= count)
    throw Error(ExitCode::kRuntime, "--device cuda",
                "there is no such device (expected 0 to " + std::to_string(count - 1) + ", got " +
                    std::to_string(index) + ")");
  int major = 0;
  gpu::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "--device cuda");
  if (major < 8)
    throw Error(ExitCode::kRuntime, "--device cuda",
                "the device is too old (expected compute capability 8.0 or later, got " +
                    device_text_cuda(index) + ")");
  gpu::check(cudaSetDevice(index), "--device cuda");
  Device device;
  device.kind = DeviceKind::kCuda;
  device.index = index;
  cudaStream_t stream = nullptr;
  gpu::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "--device cuda");
  device.stream = stream;
  auto* ring = new gpu::StagingRing;
  const size_t bytes = gpu::StagingRing::kSegments * gpu::StagingRing::kSegmentBytes;
  gpu::check(cudaMallocHost(reinterpret_cast<void**>(&ring->host), bytes), "staging");
  ring->device = static_cast<char*>(allocate_cuda(bytes, device));
  for (cudaEvent_t& event : ring->copied)
    gpu::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "staging");
  device.staging = ring;
  return device;
}

void close_cuda(const Device& device) {
  auto* ring = static_cast<gpu::StagingRing*>(device.staging);
  if (ring == nullptr) return;
  cudaStreamSynchronize(stream_of(device));
  for (cudaEvent_t event : ring->copied) cudaEventDestroy(event);
  cudaFree(ring->device);
  cudaFreeHost(ring->host);
  delete ring;
  cudaStreamDestroy(stream_of(device));
}

void* allocate_cuda(size_t bytes, const Device&) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  size_t unused = 0, total = 0;
  gpu::check(cudaMemGetInfo(&unused, &total), "device memory");
  throw Error(ExitCode::kRuntime, "device memory",
              "out of memory (expected " + gibibytes(bytes) + " more, free are " + gibibytes(unused) +
                  " of " + gibibytes(total) + ")",
              "--memory sets a smaller limit");
}

void* allocate_shared_cuda(size_t bytes) {
  void* memory = nullptr;
  gpu::check(cudaMallocManaged(&memory, bytes > 0 ? bytes : 1), "device memory");
  return memory;
}

void release_cuda(void* memory, const Device&) { cudaFree(memory); }

void upload_cuda(void* to, const void* from, size_t bytes, const Device& device) {
  gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(device)), "upload");
  synchronize_cuda(device);
}

void download_cuda(void* to, const void* from, size_t bytes, const Device& device) {
  gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(device)), "download");
  synchronize_cuda(device);
}

void copy_cuda(void* to, const void* from, size_t bytes, const Device& device) {
  gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(device)), "copy");
}

void clear_cuda(void* memory, size_t bytes, const Device& device) {
  gpu::check(cudaMemsetAsync(memory, 0, bytes, stream_of(device)), "clear");
}

void synchronize_cuda(const Device& device) {
  gpu::check(cudaStreamSynchronize(stream_of(device)), "a kernel failed");
}

#else

namespace {

// Runs now, or in the device's stream.
template <typename Work>
void in_order(const Device& device, const Work& work) {
  if (device.stream == nullptr) return work();
  static_cast<simt::Stream*>(device.stream)->add(work);
}

}  // namespace

Device open_simt(int) {
  Device device;
  device.kind = DeviceKind::kSimt;
  return device;
}

void close_simt(const Device&) {}

// Exactly the bytes asked for, so that AddressSanitizer sees the first one beyond; NaN in every float format.
void* allocate_simt(size_t bytes, const Device&) {
  if (bytes == 0) return nullptr;
  void* memory = ::operator new (bytes, std::align_val_t{256});
  std::memset(memory, 0xff, bytes);
  return memory;
}

void release_simt(void* memory, const Device& device) {
  synchronize_simt(device);
  ::operator delete (memory, std::align_val_t{256});
}

void upload_simt(void* to, const void* from, size_t bytes, const Device& device) {
  in_order(device, [=] { std::memcpy(to, from, bytes); });
  synchronize_simt(device);
}

void download_simt(void* to, const void* from, size_t bytes, const Device& device) {
  in_order(device, [=] { std::memcpy(to, from, bytes); });
  synchronize_simt(device);
}

void copy_simt(void* to, const void* from, size_t bytes, const Device& device) {
  in_order(device, [=] { std::memmove(to, from, bytes); });
}

void clear_simt(void* memory, size_t bytes, const Device& device) {
  in_order(device, [=] { std::memset(memory, 0, bytes); });
}

void synchronize_simt(const Device& device) {
  if (device.stream != nullptr) static_cast<simt::Stream*>(device.stream)->synchronize();
}

#endif

}  // namespace eep
