// gpu_uploads.h - the other streams of a device, for CUDA and for the host executor: the one in which weights
// travel while kernels run (Device::uploads; functions in gpu_memory.cu), and the one of kernels that run
// beside others (Device::beside; gpu_beside.cu).
#pragma once

#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_memory.h"

namespace eep {
namespace EEP_GPU_NS {

#ifdef __CUDACC__

struct UploadStream {
  cudaStream_t stream = nullptr;
  cudaEvent_t free_from = nullptr;         // the work after which a copy may overwrite its target
  cudaEvent_t arrived[kUploadSlots] = {};  // the last copy of each slot
};

struct BesideStream {
  Device device;  // with a stream and staging memory of its own
  cudaEvent_t forked = nullptr, joined = nullptr;
};

#else

// Two extremes of when such work runs: as late as somebody waits for it, or at once. A wait that is missing
// shows in one of them.
struct UploadStream {
  simt::Stream stream;
  simt::Event arrived[kUploadSlots];
  bool at_once = false;
};

struct BesideStream {
  simt::Stream stream;
  bool at_once = false;
};

#endif

}  // namespace EEP_GPU_NS
}  // namespace eep
