// expert_merge: merged[r] = sum_i coefficient[r, i] * base[i], element-wise on packed matrices, for many rows
// r in one read of the base experts (EEP, W_EM). f32 coefficients, f32 accumulation by fused multiply-adds in
// ascending i from 0 (zero coefficients are skipped), one rounding to the weights' dtype.
//   eep_rounding:  each product and each partial sum is rounded to that dtype, as by the code released with
//                  the paper, whose loop multiplies and adds tensors of that dtype; f32 coefficients
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct ExpertMergeArgs {
  // [experts] `elements` values each, packed alike; may be null where every row has 0
  const void* const* base = nullptr;
  int32_t experts = 0;
  int64_t elements = 0;
  DType dtype = DType::kF32;
  const float* coefficient = nullptr;  // [rows, experts]
  int32_t rows = 0;
  void* const* merged = nullptr;  // [rows] pointers to `elements` values each
  bool eep_rounding = false;
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const ExpertMergeArgs& args) {
  assert(args.rows == 0 || (args.base != nullptr && args.coefficient != nullptr && args.merged != nullptr));
  assert(args.rows >= 0 && args.experts > 0 && args.elements >= 0);
}

void expert_merge_cpu(const ExpertMergeArgs& args, const Device& device);

// On a GPU base, merged and coefficient are host memory; what base and merged point to is device memory,
// aligned to 16 bytes and readable up to the next multiple of 16. The dtype is bf16 or f16.
void expert_merge_simt(const ExpertMergeArgs& args, const Device& device);
void expert_merge_cuda(const ExpertMergeArgs& args, const Device& device);

}  // namespace eep
