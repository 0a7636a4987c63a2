// clamp: x[i] = -limit where it is below, limit where it is above, in place (OLMoE's clip_qkv). NaN stays.
#pragma once

#include <cassert>
#include <cstdint>

#include "kernels/common/device.h"

namespace eep {

struct ClampArgs {
  float* x = nullptr;  // [count], in place
  int64_t count = 0;
  float limit = 0;  // above 0
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const ClampArgs& args) {
  assert(args.count >= 0 && args.limit > 0);
  assert(args.count == 0 || args.x != nullptr);
}

void clamp_cpu(const ClampArgs& args, const Device& device);

// On a GPU x is device memory; the bits are the CPU's.
void clamp_simt(const ClampArgs& args, const Device& device);
void clamp_cuda(const ClampArgs& args, const Device& device);

}  // namespace eep
