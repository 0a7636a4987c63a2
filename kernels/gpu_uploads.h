// gpu_uploads.h - the stream in which weights travel while kernels run, one for CUDA and one for the host
// executor. Device::uploads points to it; gpu_memory.cu has the functions.
#pragma once

#include "kernels/gpu.h"
#include "kernels/gpu_memory.h"

namespace eep {
namespace EEP_GPU_NS {

#ifdef __CUDACC__

struct UploadStream {
  cudaStream_t stream = nullptr;
  cudaEvent_t free_from = nullptr;         // the work after which a copy may overwrite its target
  cudaEvent_t arrived[kUploadSlots] = {};  // the last copy of each slot
};

#else

// Two extremes of when a copy runs: as late as somebody waits for it, or at once. A wait that is missing
// shows in one of them.
struct UploadStream {
  simt::Stream stream;
  simt::Event arrived[kUploadSlots];
  bool at_once = false;
};

#endif

}  // namespace EEP_GPU_NS
}  // namespace eep
