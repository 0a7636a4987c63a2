// The rows of the backend table.
#include "engine/ops.h"

namespace eep {

const Ops& cpu_ops() {
  static const Ops ops{
      .name = "cpu",
      .packed_bytes = gemm_packed_bytes,
      .pack = gemm_pack_cpu,
      .embed = embed_cpu,
      .rmsnorm = rmsnorm_cpu,
      .gemm = gemm_cpu,
      .rope = rope_cpu,
      .attention = attention_cpu,
      .router = router_cpu,
      .dispatch = dispatch_cpu,
      .expert_merge = expert_merge_cpu,
      .expert_ffn = expert_ffn_cpu,
      .combine = combine_cpu,
      .score = score_cpu,
      .expert_stats = expert_stats_cpu,
  };
  return ops;
}

}  // namespace eep
