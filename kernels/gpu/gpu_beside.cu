// gpu_beside on CUDA and on the host executor, side by side.
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_beside.h"
#include "kernels/gpu/gpu_uploads.h"

namespace eep {

#ifdef __CUDACC__

Device fork_beside_cuda(const Device& device) {
  if (device.beside == nullptr) return device;
  const gpu::BesideStream& beside = *static_cast<const gpu::BesideStream*>(device.beside);
  gpu::check(cudaEventRecord(beside.forked, static_cast<cudaStream_t>(device.stream)), "fork");
  gpu::check(cudaStreamWaitEvent(static_cast<cudaStream_t>(beside.device.stream), beside.forked, 0), "fork");
  return beside.device;
}

void join_beside_cuda(const Device& device) {
  if (device.beside == nullptr) return;
  const gpu::BesideStream& beside = *static_cast<const gpu::BesideStream*>(device.beside);
  gpu::check(cudaEventRecord(beside.joined, static_cast<cudaStream_t>(beside.device.stream)), "join");
  gpu::check(cudaStreamWaitEvent(static_cast<cudaStream_t>(device.stream), beside.joined, 0), "join");
}

#else

Device fork_beside_simt(const Device& device) {
  simt::calls.events += 2;
  if (device.beside == nullptr) return device;
  gpu::BesideStream& beside = *static_cast<gpu::BesideStream*>(device.beside);
  Device side = device;
  side.beside = nullptr;
  simt::Stream* const stream = static_cast<simt::Stream*>(device.stream);
  if (beside.at_once) {
    if (stream != nullptr) stream->synchronize();
    side.stream = nullptr;
    return side;
  }
  simt::Event forked;
  if (stream != nullptr) forked.record(*stream);
  forked.make_wait(beside.stream);
  side.stream = &beside.stream;
  return side;
}

void join_beside_simt(const Device& device) {
  simt::calls.events += 2;
  if (device.beside == nullptr) return;
  gpu::BesideStream& beside = *static_cast<gpu::BesideStream*>(device.beside);
  simt::Event joined;
  joined.record(beside.stream);
  if (device.stream == nullptr) return beside.stream.run_until(joined.position);
  joined.make_wait(*static_cast<simt::Stream*>(device.stream));
}

#endif

}  // namespace eep
