// tensor_map.h - how TMA sees matrices of one shape that lie at several addresses: a three-dimensional
// tensor, whose outermost coordinate chooses the matrix; two of them where the matrices lie in two
// allocations.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/tile_schedule.h"

#ifdef __CUDACC__
#include <cuda.h>
#else
#include "kernels/simt/ptx_sm90.h"
#endif

namespace eep::EEP_GPU_NS {

#ifdef __CUDACC__
using TensorMap = CUtensorMap;
#else
using TensorMap = simt::TensorMap;
#endif

// Addresses at multiples of one step from the lowest. The step is the greatest there is, and may be smaller
// than a matrix: the tensor's outermost planes then overlap, which TMA, a sum of coordinates times strides,
// does not mind.
struct AddressSteps {
  uintptr_t first = 0;
  uint64_t step = 0;   // bytes
  uint64_t count = 0;  // of planes
  int32_t plane(const void* matrix) const {
    return static_cast<int32_t>((reinterpret_cast<uintptr_t>(matrix) - first) / step);
  }
};

// matrices: not empty, each at a multiple of 16 bytes. plane_bytes: the step of a single address.
inline AddressSteps address_steps(const std::vector<const uint16_t*>& matrices, uint64_t plane_bytes) {
  AddressSteps steps;
  steps.first = reinterpret_cast<uintptr_t>(*std::min_element(matrices.begin(), matrices.end()));
  uint64_t furthest = 0;
  for (const uint16_t* matrix : matrices) {
    const uint64_t distance = reinterpret_cast<uintptr_t>(matrix) - steps.first;
    steps.step = std::gcd(steps.step, distance);
    furthest = std::max(furthest, distance);
  }
  if (steps.step == 0) steps.step = plane_bytes;
  steps.count = furthest / steps.step + 1;
  constexpr uint64_t kMostPlanes = uint64_t{1} << 30,
                     kMostBytes = uint64_t{1} << 40;  // of a coordinate, of a stride
  if (steps.count > kMostPlanes || steps.step >= kMostBytes) {
    throw Error(ExitCode::kRuntime, "expert_ffn",
                "weights lie too far apart for one tensor map" +
                    expected_got("at most 2^30 steps of less than 2^40 bytes",
                                 std::to_string(steps.count) + " of " + std::to_string(steps.step)));
  }
  return steps;
}

// Matrices of at most two allocations (base experts, the merge buffer), which may lie anywhere: the addresses
// are divided at the largest gap between them.
struct AddressHalves {
  AddressSteps half[2];
  uintptr_t second = 0;  // the lowest address of the second half, or 0
  // Plane and half of a matrix, as a kernel gets it: half in the lowest bit.
  int32_t place(const void* matrix) const {
    const bool late = second != 0 && reinterpret_cast<uintptr_t>(matrix) >= second;
    return 2 * half[late ? 1 : 0].plane(matrix) + (late ? 1 : 0);
  }
};

inline AddressHalves address_halves(std::vector<const uint16_t*> matrices, uint64_t plane_bytes) {
  std::sort(matrices.begin(), matrices.end());
  size_t cut = 0;
  ptrdiff_t gap = 0;
  for (size_t i = 1; i < matrices.size(); ++i) {
    if (matrices[i] - matrices[i - 1] > gap) gap = matrices[i] - matrices[i - 1], cut = i;
  }
  AddressHalves halves;
  if (cut == 0) {
    halves.half[0] = halves.half[1] = address_steps(matrices, plane_bytes);
    return halves;
  }
  halves.half[0] =
      address_steps({matrices.begin(), matrices.begin() + static_cast<ptrdiff_t>(cut)}, plane_bytes);
  halves.half[1] =
      address_steps({matrices.begin() + static_cast<ptrdiff_t>(cut), matrices.end()}, plane_bytes);
  halves.second = reinterpret_cast<uintptr_t>(matrices[cut]);
  return halves;
}

// The tensor [count, n, k] of 16-bit matrices [n, row_stride_16bit(k)], copied in boxes of [1, rows, 64],
// swizzled by 128 bytes.
inline TensorMap tensor_map(const AddressSteps& steps, int64_t n, int64_t k, int rows) {
  const uint64_t row_bytes = 2 * static_cast<uint64_t>(row_stride_16bit(k));
  const uint32_t box_rows = static_cast<uint32_t>(rows);
#ifdef __CUDACC__
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    check(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
        "expert_ffn");
    if (found != cudaDriverEntryPointSuccess) {
      throw Error(ExitCode::kRuntime, "expert_ffn",
                  "the driver has no cuTensorMapEncodeTiled (expected CUDA 12 or later)");
    }
    return reinterpret_cast<Encode>(entry);
  }();
  const cuuint64_t extent[] = {static_cast<cuuint64_t>(k), static_cast<cuuint64_t>(n), steps.count};
  const cuuint64_t stride[] = {row_bytes, steps.step};
  const cuuint32_t box[] = {64, box_rows, 1}, every[] = {1, 1, 1};
  TensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 3, reinterpret_cast<void*>(steps.first), extent, stride,
             box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw Error(ExitCode::kRuntime, "expert_ffn",
                "the driver refuses a tensor map (" + std::to_string(steps.count) + " planes, " +
                    std::to_string(steps.step) + " bytes apart, of " + std::to_string(n) + " x " +
                    std::to_string(k) + "; CUresult " + std::to_string(result) + ")");
  }
  return map;
#else
  return {reinterpret_cast<const char*>(steps.first),
          {static_cast<uint64_t>(k), static_cast<uint64_t>(n), steps.count},
          {row_bytes, steps.step},
          {64, box_rows}};
#endif
}

}  // namespace eep::EEP_GPU_NS
