#include "engine/cuda_identity.h"

#include "kernels/gpu/gpu_identity.h"

namespace eep {

#ifdef EEP_HAVE_CUDA
std::string cuda_device_id(int index) { return device_id_cuda(index); }
#else
std::string cuda_device_id(int) { return ""; }
#endif

}  // namespace eep
