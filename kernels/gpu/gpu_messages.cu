#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_messages.h"

namespace eep {

#ifdef __CUDACC__
namespace {

bool shared = false;  // of the process, as its pools are; set before there is a second thread's work

}  // namespace

void share_memory_cuda() { shared = true; }
bool memory_is_shared_cuda() { return shared; }
void use_device_cuda(int index) { gpu::check(cudaSetDevice(index), "--device cuda"); }
#endif

}  // namespace eep
