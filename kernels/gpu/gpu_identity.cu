#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_identity.h"

namespace eep {

#ifdef __CUDACC__
std::string device_id_cuda(int index) {
  cudaDeviceProp properties;
  gpu::check(cudaGetDeviceProperties(&properties, index), "--device cuda");
  static const char* const kDigits = "0123456789abcdef";
  std::string text;
  for (const char byte : properties.uuid.bytes) {
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}
#endif

}  // namespace eep
