#include "engine/cuda_messages.h"

#include "kernels/gpu/gpu_messages.h"

namespace eep {

#ifdef EEP_HAVE_CUDA
void share_cuda_memory() { share_memory_cuda(); }
void use_cuda_device(int index) { use_device_cuda(index); }
#else
void share_cuda_memory() {}
void use_cuda_device(int) {}
#endif

}  // namespace eep
