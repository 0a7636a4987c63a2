// cpu_memory: the CPU's row of the functions in gpu_memory.h: host memory, aligned to a cache line.
#pragma once

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

void* allocate_cpu(size_t bytes, const Device& device);
void release_cpu(void* memory, const Device& device);
void upload_cpu(void* to, const void* from, size_t bytes, const Device& device);
void download_cpu(void* to, const void* from, size_t bytes, const Device& device);
void copy_cpu(void* to, const void* from, size_t bytes, const Device& device);
void clear_cpu(void* memory, size_t bytes, const Device& device);

}  // namespace eep
