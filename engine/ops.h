// Ops: the backend seam. A table of functions over the argument structs of kernels/, one row a backend; the
// engine is written once over it.
#pragma once

#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/device.h"
#include "kernels/dispatch.h"
#include "kernels/embed.h"
#include "kernels/expert_ffn.h"
#include "kernels/expert_merge.h"
#include "kernels/expert_stats.h"
#include "kernels/gemm.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/router.h"
#include "kernels/score.h"

namespace eep {

struct Ops {
  const char* name;
  size_t (*packed_bytes)(int64_t n, int64_t k, DType dtype);
  PackedMatrix (*pack)(const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                       DType dtype, void* destination);
  void (*embed)(const EmbedArgs&, const Device&);
  void (*rmsnorm)(const RmsNormArgs&, const Device&);
  void (*gemm)(const GemmArgs&, const Device&);
  void (*rope)(const RopeArgs&, const Device&);
  void (*attention)(const AttentionArgs&, const Device&);
  void (*router)(const RouterArgs&, const Device&);
  void (*dispatch)(const DispatchArgs&, const Device&);
  void (*expert_merge)(const ExpertMergeArgs&, const Device&);
  void (*expert_ffn)(const ExpertFfnArgs&, const Device&);
  void (*combine)(const CombineArgs&, const Device&);
  void (*score)(const ScoreArgs&, const Device&);
  void (*expert_stats)(const ExpertStatsArgs&, const Device&);
};

const Ops& cpu_ops();

}  // namespace eep
