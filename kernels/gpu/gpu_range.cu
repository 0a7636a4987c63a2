#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_range.h"

#if defined(__CUDACC__) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define EEP_NVTX
#endif

namespace eep {
namespace EEP_GPU_NS {

// On the host executor the names that are open, outermost first, stand before every launch that is noted.
OpRange::OpRange([[maybe_unused]] const char* op) {
#ifdef EEP_NVTX
  nvtxRangePushA(op);
#elif !defined(__CUDACC__)
  simt::ranges.open.push_back(op);
  if (simt::ranges.noting) simt::ranges.launches.push_back(simt::ranges.open);
#endif
}

OpRange::~OpRange() {
#ifdef EEP_NVTX
  nvtxRangePop();
#elif !defined(__CUDACC__)
  simt::ranges.open.pop_back();
#endif
}

}  // namespace EEP_GPU_NS

void GPU_OP(begin_range)([[maybe_unused]] const char* name, const Device&) {
#ifdef EEP_NVTX
  nvtxRangePushA(name);
#elif !defined(__CUDACC__)
  simt::ranges.open.push_back(name);
#endif
}

void GPU_OP(end_range)(const Device&) {
#ifdef EEP_NVTX
  nvtxRangePop();
#elif !defined(__CUDACC__)
  simt::ranges.open.pop_back();
#endif
}

}  // namespace eep
