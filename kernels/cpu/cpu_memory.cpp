#include "kernels/cpu/cpu_memory.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/common/error.h"

namespace eep {

void* allocate_cpu(size_t bytes, const Device&) {
  if (bytes == 0) return nullptr;
  const size_t rounded = (bytes + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
  void* const memory = rounded < bytes ? nullptr : std::aligned_alloc(Buffer::kAlignment, rounded);
  if (memory == nullptr)
    throw Error(ExitCode::kRuntime, "memory",
                "out of memory (expected " + std::to_string(bytes) + " bytes free)");
  return memory;
}

void release_cpu(void* memory, const Device&) { std::free(memory); }

void upload_cpu(void* to, const void* from, size_t bytes, const Device&) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void download_cpu(void* to, const void* from, size_t bytes, const Device&) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void copy_cpu(void* to, const void* from, size_t bytes, const Device&) {
  if (bytes > 0) std::memmove(to, from, bytes);
}

void clear_cpu(void* memory, size_t bytes, const Device&) {
  if (bytes > 0) std::memset(memory, 0, bytes);
}

}  // namespace eep
