// gpu_memory: a device and its memory. Buffers are taken once, by the memory plan, and never inside an op.
#pragma once

#include <string>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

// A device with its stream and staging memory; an Error where there is no driver, no such device, or one that
// is too old. Closed when the program has no more work for it.
Device open_simt(int index);
Device open_cuda(int index);
void close_simt(const Device& device);
bool wgmma_supported_cuda();  // by the device in use; no where there is none
void close_cuda(const Device& device);

// Memory of the device, aligned to 256 bytes; an Error says what was asked for and what was free.
void* allocate_simt(size_t bytes, const Device& device);
void* allocate_cuda(size_t bytes, const Device& device);
void release_simt(void* memory, const Device& device);
void release_cuda(void* memory, const Device& device);

// In the order of the stream. upload and download return when the host's memory may be used again.
void upload_simt(void* to, const void* from, size_t bytes, const Device& device);
void upload_cuda(void* to, const void* from, size_t bytes, const Device& device);
void download_simt(void* to, const void* from, size_t bytes, const Device& device);
void download_cuda(void* to, const void* from, size_t bytes, const Device& device);
void copy_simt(void* to, const void* from, size_t bytes, const Device& device);  // within the device
void copy_cuda(void* to, const void* from, size_t bytes, const Device& device);
void clear_simt(void* memory, size_t bytes, const Device& device);  // to zeros
void clear_cuda(void* memory, size_t bytes, const Device& device);

// Memory of the host that upload_ahead copies from (pinned on CUDA).
void* allocate_host_simt(size_t bytes, const Device& device);
void* allocate_host_cuda(size_t bytes, const Device& device);
void release_host_simt(void* memory, const Device& device);
void release_host_cuda(void* memory, const Device& device);

// A copy from such memory beside the work of the stream, in a stream of its own: it starts when all work
// given to the device so far is over, and what is given after await_upload(slot) starts when the last copy of
// that slot has arrived. slot: 0 to kUploadSlots - 1.
inline constexpr int kUploadSlots = 3;
void upload_ahead_simt(void* to, const void* from, size_t bytes, int slot, const Device& device);
void upload_ahead_cuda(void* to, const void* from, size_t bytes, int slot, const Device& device);
void await_upload_simt(int slot, const Device& device);
void await_upload_cuda(int slot, const Device& device);

// Bytes of the device that are free and that there are; zeros: the host executor has no memory of its own.
DeviceMemory memory_simt(const Device& device);
DeviceMemory memory_cuda(const Device& device);

// Until all work given to the device is over; a kernel that failed since shows here.
void synchronize_simt(const Device& device);
void synchronize_cuda(const Device& device);

// Devices that a CUDA program can use here; 0 without a driver.
int device_count_cuda();
// "NVIDIA H100 80GB HBM3, compute capability 9.0, 79.2 GiB"
std::string device_text_cuda(int index);

}  // namespace eep
