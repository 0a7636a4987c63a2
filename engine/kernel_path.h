// Kernels of one contract whose sums have an order of their own, and so other bits: matrix products by
// mma.sync or by wgmma (compute capability 9.0). A run stays with what it began with.
//
//   EEP_CUDA_PATH=mma eep run experiment.yaml --device cuda
#pragma once

#include <string>

namespace eep {

inline constexpr const char* kKernelPathSetting = "EEP_CUDA_PATH";

// What the environment says: "auto" (unset), "mma" or "wgmma". Error(kConfig) for another word.
std::string kernel_path_setting();

// Whether products go by wgmma on a device that has it or not; automatic: without a setting. Error(kConfig)
// where the setting wants what the device has not.
bool wgmma_chosen(bool supported, bool automatic);

}  // namespace eep
