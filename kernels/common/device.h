// Where ops run. A value that is passed, never a global.
#pragma once

#include <cstddef>

namespace eep {

enum class DeviceKind { kCpu, kCuda, kSimt };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;            // GPU ordinal
  int threads = 1;          // CPU worker threads; bits never depend on it
  void* stream = nullptr;   // CUDA stream, null on the CPU
  void* staging = nullptr;  // what launchers take small tables to the GPU through (gpu.h)
  void* uploads = nullptr;  // the stream of copies that run ahead (gpu_uploads.h); null: they run at once
  void* beside = nullptr;   // the stream of work beside this one's (gpu_beside.h); null: there is one stream
};

struct DeviceMemory {
  size_t free = 0, total = 0;  // bytes; zeros: not known, or the host's
};

}  // namespace eep
