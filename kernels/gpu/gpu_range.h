// gpu_range: names over stretches of what the host asks a device for, which a profiler shows (NVTX): the
// engine's, such as a layer's, and within them the op's of every launch (gpu.h). Without a profiler a call
// that does nothing.
#pragma once

#include "kernels/common/device.h"

namespace eep {

// Ranges nest; each begin has its end, in the same thread.
void begin_range_simt(const char* name, const Device& device);
void begin_range_cuda(const char* name, const Device& device);
void end_range_simt(const Device& device);
void end_range_cuda(const Device& device);

}  // namespace eep
