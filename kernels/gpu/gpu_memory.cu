// gpu_memory on CUDA and on the host executor, side by side.
#include <algorithm>
#include <cstdio>

#include "kernels/gpu/cuda_found.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_memory.h"
#include "kernels/gpu/gpu_messages.h"
#include "kernels/gpu/gpu_uploads.h"

namespace eep {

#ifdef __CUDACC__

namespace {

cudaStream_t stream_of(const Device& device) { return static_cast<cudaStream_t>(device.stream); }
gpu::UploadStream& uploads_of(const Device& device) {
  return *static_cast<gpu::UploadStream*>(device.uploads);
}

cudaEvent_t new_event() {
  cudaEvent_t event = nullptr;
  gpu::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "--device cuda");
  return event;
}

// Memory is taken from the driver once and kept: a pass gives back what the next one needs.
bool has_pool(int index) {
  if (memory_is_shared_cuda()) return false;  // what a pool gave before is cudaFree's, too
  int supported = 0;
  cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, index);
  return supported != 0;
}

cudaMemPool_t pool_of(int index) {
  cudaMemPool_t pool = nullptr;
  gpu::check(cudaDeviceGetDefaultMemPool(&pool, index), "device memory");
  return pool;
}

gpu::StagingRing* new_ring(const Device& device) {
  auto* ring = new gpu::StagingRing;
  const size_t bytes = gpu::StagingRing::kSegments * gpu::StagingRing::kSegmentBytes;
  gpu::check(cudaMallocHost(reinterpret_cast<void**>(&ring->host), bytes), "staging");
  ring->device = static_cast<char*>(allocate_cuda(bytes, device));
  for (cudaEvent_t& event : ring->copied) event = new_event();
  return ring;
}

gpu::Unreported& unreported(const Device& device) {
  return static_cast<gpu::StagingRing*>(device.staging)->unreported;
}

// Into `closing` what goes wrong, the ring's own unreported failure among it.
void delete_ring(gpu::StagingRing* ring, const Device& device, gpu::Unreported& closing) {
  for (cudaEvent_t event : ring->copied) closing.note(cudaEventDestroy(event), "staging");
  release_cuda(ring->device, device);
  closing.note(ring->unreported.status, ring->unreported.where);
  closing.note(cudaFreeHost(ring->host), "staging");
  delete ring;
}

// The ops launched last, in the device's stream and in the one beside it.
std::string last_launches(const Device& device) {
  const auto last = [](const Device& of) {
    const char* const op = static_cast<gpu::StagingRing*>(of.staging)->last_launch;
    return std::string(op != nullptr ? op : "none");
  };
  std::string text = "the op launched last is " + last(device);
  if (device.beside != nullptr)
    text += ", beside it " + last(static_cast<gpu::BesideStream*>(device.beside)->device);
  return text;
}

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
  CudaFound found;
  cudaDriverGetVersion(&found.driver);
  cudaRuntimeGetVersion(&found.runtime);
  const cudaError_t status = cudaGetDeviceCount(&found.devices);
  if (status != cudaSuccess) {
    cudaGetLastError();
    found.problem = cudaGetErrorString(status);
  }
  check_cuda_found(found, index);
  cudaDeviceProp card;
  gpu::check(cudaGetDeviceProperties(&card, index), "--device cuda");
  check_cuda_card(card.name, card.major, card.minor);
  gpu::check(cudaSetDevice(index), "--device cuda");
  Device device;
  device.kind = DeviceKind::kCuda;
  device.index = index;
  cudaStream_t stream = nullptr;
  gpu::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "--device cuda");
  device.stream = stream;
  if (has_pool(index)) {
    uint64_t all = UINT64_MAX;
    gpu::check(cudaMemPoolSetAttribute(pool_of(index), cudaMemPoolAttrReleaseThreshold, &all),
               "--device cuda");
  }
  device.staging = new_ring(device);
  auto* beside = new gpu::BesideStream{device, new_event(), new_event()};
  gpu::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "--device cuda");
  beside->device.stream = stream;
  beside->device.staging = new_ring(device);
  auto* uploads = new gpu::UploadStream;
  gpu::check(cudaStreamCreateWithFlags(&uploads->stream, cudaStreamNonBlocking), "--device cuda");
  uploads->free_from = new_event();
  for (cudaEvent_t& event : uploads->arrived) event = new_event();
  device.uploads = uploads;
  device.beside = beside;
  return device;
}

bool wgmma_supported_cuda() {
  int index = 0, major = 0;
  if (cudaGetDevice(&index) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) == cudaSuccess) {
    return major == 9;
  }
  cudaGetLastError();  // opening the device says what is wrong
  return false;
}

void close_cuda(const Device& device) {
  if (device.staging == nullptr) return;
  auto* const beside = static_cast<gpu::BesideStream*>(device.beside);
  gpu::UploadStream& uploads = uploads_of(device);
  gpu::Unreported closing;
  for (cudaStream_t stream : {stream_of(beside->device), stream_of(device), uploads.stream})
    closing.note(cudaStreamSynchronize(stream), "closing the device");
  delete_ring(static_cast<gpu::StagingRing*>(beside->device.staging), device, closing);
  delete_ring(static_cast<gpu::StagingRing*>(device.staging), device, closing);
  for (cudaEvent_t event : {beside->forked, beside->joined, uploads.free_from})
    closing.note(cudaEventDestroy(event), "closing the device");
  for (cudaEvent_t event : uploads.arrived) closing.note(cudaEventDestroy(event), "closing the device");
  for (cudaStream_t stream : {stream_of(beside->device), uploads.stream, stream_of(device)})
    closing.note(cudaStreamDestroy(stream), "closing the device");
  delete beside;
  delete &uploads;
  if (closing.status == cudaSuccess) return;
  std::fprintf(stderr, "eep: %s: CUDA says \"%s\"\n", closing.where, cudaGetErrorString(closing.status));
}

void* allocate_cuda(size_t bytes, const Device& device) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  if (!has_pool(device.index)) {
    if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  } else {
    if (cudaMallocAsync(&memory, bytes, stream_of(device)) == cudaSuccess) return memory;
    cudaGetLastError();
    // what is free in the pool may be in pieces: back to the driver with it, which can join them
    gpu::check(cudaStreamSynchronize(stream_of(device)), "device memory");
    gpu::check(cudaMemPoolTrimTo(pool_of(device.index), 0), "device memory");
    if (cudaMallocAsync(&memory, bytes, stream_of(device)) == cudaSuccess) return memory;
  }
  cudaGetLastError();
  size_t unused = 0, total = 0;
  gpu::check(cudaMemGetInfo(&unused, &total), "device memory");
  throw Error(ExitCode::kRuntime, "device memory", out_of_memory_text(bytes, unused, total),
              "--memory sets a smaller limit");
}

// Returns at once where there is a pool: the memory goes back in the order of the stream, after the copies
// that run beside it. cudaFree waits for both streams.
void release_cuda(void* memory, const Device& device) {
  if (memory == nullptr) return;
  gpu::Unreported& failed = unreported(device);
  if (!has_pool(device.index)) {
    failed.note(cudaFree(memory), "release");
    return;
  }
  if (device.uploads != nullptr) {
    for (cudaEvent_t event : uploads_of(device).arrived)
      failed.note(cudaStreamWaitEvent(stream_of(device), event, 0), "release");
  }
  failed.note(cudaFreeAsync(memory, stream_of(device)), "release");
}

// Through the ring, so that nobody waits for the device: the host's memory is free again when its bytes are
// in pinned memory.
void upload_cuda(void* to, const void* from, size_t bytes, const Device& device) {
  for (size_t at = 0; at < bytes; at += gpu::kScratchBytes) {
    const size_t count = std::min(bytes - at, gpu::kScratchBytes);
    gpu::Staging staging(device);
    const void* const staged = staging.pinned(static_cast<const char*>(from) + at, count);
    gpu::check(cudaMemcpyAsync(static_cast<char*>(to) + at, staged, count, cudaMemcpyHostToDevice,
                               stream_of(device)),
               "upload");
  }
}

void* allocate_host_cuda(size_t bytes, const Device&) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  if (cudaMallocHost(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  throw Error(ExitCode::kRuntime, "pinned memory",
              "out of memory (expected " + gibibytes(bytes) + " more of the host's)",
              "weights beyond the device's memory must fit the host's");
}

void release_host_cuda(void* memory, const Device& device) {
  unreported(device).note(cudaStreamSynchronize(uploads_of(device).stream), "upload");
  unreported(device).note(cudaFreeHost(memory), "release");
}

void upload_ahead_cuda(void* to, const void* from, size_t bytes, int slot, const Device& device) {
  gpu::UploadStream& uploads = uploads_of(device);
  gpu::check(cudaEventRecord(uploads.free_from, stream_of(device)), "upload");
  gpu::check(cudaStreamWaitEvent(uploads.stream, uploads.free_from, 0), "upload");
  gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, uploads.stream), "upload");
  gpu::check(cudaEventRecord(uploads.arrived[slot], uploads.stream), "upload");
}

void await_upload_cuda(int slot, const Device& device) {
  gpu::check(cudaStreamWaitEvent(stream_of(device), uploads_of(device).arrived[slot], 0), "upload");
}

DeviceMemory memory_cuda(const Device& device) {
  DeviceMemory memory;
  gpu::check(cudaMemGetInfo(&memory.free, &memory.total), "device memory");
  if (has_pool(device.index)) {
    uint64_t reserved = 0, used = 0;
    const cudaMemPool_t pool = pool_of(device.index);
    gpu::check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved), "device memory");
    gpu::check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used), "device memory");
    memory.free += reserved - used;
  }
  return memory;
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
  const cudaError_t status = cudaStreamSynchronize(stream_of(device));
  if (status == cudaSuccess) return unreported(device).report();
  cudaGetLastError();
  throw Error(
      ExitCode::kRuntime, "a kernel failed",
      std::string("CUDA says \"") + cudaGetErrorString(status) + "\" (" + last_launches(device) + ")",
      "with CUDA_LAUNCH_BLOCKING=1 in the environment the message names the kernel, its shapes and its "
      "layer");
}

#else

namespace {

// Runs now, or in the device's stream.
template <typename Work>
void in_order(const Device& device, const Work& work) {
  ++simt::calls.copies;
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
  if (device.uploads != nullptr) static_cast<gpu::UploadStream*>(device.uploads)->stream.synchronize();
  ::operator delete (memory, std::align_val_t{256});
}

void upload_simt(void* to, const void* from, size_t bytes, const Device& device) {
  if (bytes == 0) return;  // of nowhere, perhaps
  in_order(device, [=] { std::memcpy(to, from, bytes); });
  synchronize_simt(device);
}

void download_simt(void* to, const void* from, size_t bytes, const Device& device) {
  if (bytes == 0) return;  // of nowhere, perhaps
  in_order(device, [=] { std::memcpy(to, from, bytes); });
  synchronize_simt(device);
}

void* allocate_host_simt(size_t bytes, const Device& device) { return allocate_simt(bytes, device); }

void release_host_simt(void* memory, const Device& device) {
  if (device.uploads != nullptr) static_cast<gpu::UploadStream*>(device.uploads)->stream.synchronize();
  ::operator delete (memory, std::align_val_t{256});
}

void upload_ahead_simt(void* to, const void* from, size_t bytes, int slot, const Device& device) {
  simt::calls.events += 3;
  if (device.uploads == nullptr) return in_order(device, [=] { std::memcpy(to, from, bytes); });
  ++simt::calls.copies;
  gpu::UploadStream& uploads = *static_cast<gpu::UploadStream*>(device.uploads);
  simt::Event free_from;
  if (device.stream != nullptr) free_from.record(*static_cast<simt::Stream*>(device.stream));
  free_from.make_wait(uploads.stream);
  uploads.stream.add([=] { std::memcpy(to, from, bytes); });
  uploads.arrived[slot].record(uploads.stream);
  if (uploads.at_once) uploads.stream.synchronize();
}

void await_upload_simt(int slot, const Device& device) {
  ++simt::calls.events;
  if (device.uploads == nullptr) return;
  const simt::Event& arrived = static_cast<gpu::UploadStream*>(device.uploads)->arrived[slot];
  if (arrived.stream == nullptr) return;
  if (device.stream == nullptr) return arrived.stream->run_until(arrived.position);
  arrived.make_wait(*static_cast<simt::Stream*>(device.stream));
}

DeviceMemory memory_simt(const Device&) { return {}; }

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
