#include <cub/device/device_radix_sort.cuh>

#include "bench/gpu/cuda/twins.h"
#include "kernels/common/error.h"

namespace eep::bench {
namespace {

__global__ void identity(int32_t* slots, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) slots[i] = static_cast<int32_t>(i);
}

constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

cudaError_t sort(void* temporary, size_t& bytes, const int32_t* group, int32_t* sorted, const int32_t* slots,
                 int32_t* order, int64_t count, int bits, cudaStream_t stream) {
  return cub::DeviceRadixSort::SortPairs(temporary, bytes, group, sorted, slots, order, count, 0, bits,
                                         stream);
}

}  // namespace

size_t cub_order_bytes(int64_t count) {
  size_t bytes = 0;
  sort(nullptr, bytes, nullptr, nullptr, nullptr, nullptr, count, 32, nullptr);
  return aligned(bytes) + 2 * aligned(static_cast<size_t>(count) * sizeof(int32_t));
}

void cub_order_cuda(const int32_t* group, int64_t count, int32_t groups, int32_t* order, void* scratch,
                    const Device& device) {
  const auto stream = static_cast<cudaStream_t>(device.stream);
  const size_t list = aligned(static_cast<size_t>(count) * sizeof(int32_t));
  auto* const slots = static_cast<int32_t*>(scratch);
  auto* const sorted = reinterpret_cast<int32_t*>(static_cast<char*>(scratch) + list);
  identity<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(slots, count);
  int bits = 1;
  while (groups > 1 << bits) ++bits;
  size_t bytes = cub_order_bytes(count) - 2 * list;
  if (sort(static_cast<char*>(scratch) + 2 * list, bytes, group, sorted, slots, order, count, bits, stream) !=
      cudaSuccess)
    throw Error(ExitCode::kRuntime, "CUB", "the sort failed");
}

}  // namespace eep::bench
