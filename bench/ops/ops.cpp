#include "bench/ops/ops.h"

namespace eep::bench {

void bench_ops(Bench& bench) {
  bench_expert_merge(bench);
  bench_gemm(bench);
  bench_expert_ffn(bench);
  bench_mixture(bench);
  bench_dispatch(bench);
  bench_router(bench);
  bench_attention(bench);
  bench_embed(bench);
  bench_rmsnorm(bench);
  bench_rope(bench);
  bench_combine(bench);
  bench_score(bench);
  bench_expert_stats(bench);
  bench_noise(bench);
}

}  // namespace eep::bench
