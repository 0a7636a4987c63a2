// The cases of the ops, one file an op, written once over the Ops table. B1 to B6 have shapes of released
// models. C has those that the tests list (tests/kernels/cases.h): experts and projections of the demo models
// and single experts of larger ones, small enough for a CPU.
#pragma once

#include <algorithm>

#include "bench/harness.h"

namespace eep::bench {

// Extents of the experts and the attention of released models.
struct ModelShape {
  const char* name;
  int64_t hidden, intermediate;
  int32_t experts, top_k;
  int64_t heads, kv_heads, head_dim;
  double grouped_target, block_target;  // TFLOP/s on an H100 80GB, 0: none is set
};
inline constexpr ModelShape kModels[] = {{"Mixtral-8x7B", 4096, 14336, 8, 2, 32, 8, 128, 450, 660},
                                         {"Mixtral-8x22B", 6144, 16384, 8, 2, 48, 8, 128, 0, 0},
                                         {"Qwen1.5-MoE-A2.7B", 2048, 1408, 60, 4, 16, 16, 128, 0, 0},
                                         {"Qwen3-30B-A3B", 2048, 768, 128, 8, 32, 4, 128, 0, 520}};
inline constexpr int kModelCount = 4;
// --tiny takes the first and the last model alone, with small extents.
inline bool skips(const Bench& bench, int model) { return bench.tiny() && (model == 1 || model == 2); }
inline ModelShape shape_of(const Bench& bench, int model) {
  ModelShape shape = kModels[model];
  if (!bench.tiny()) return shape;
  shape.hidden = 64;
  shape.intermediate = 48;
  shape.experts = std::min(shape.experts, 12);
  shape.top_k = std::min(shape.top_k, 3);
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 32;
  return shape;
}

void bench_attention(Bench& bench);     // B6, C
void bench_combine(Bench& bench);       // C
void bench_dispatch(Bench& bench);      // B5, C
void bench_embed(Bench& bench);         // C
void bench_expert_ffn(Bench& bench);    // B3, C
void bench_expert_merge(Bench& bench);  // B1, C
void bench_expert_stats(Bench& bench);  // C
void bench_gemm(Bench& bench);          // B2, C
void bench_mixture(Bench& bench);       // B4
void bench_noise(Bench& bench);         // C
void bench_rmsnorm(Bench& bench);       // C
void bench_rope(Bench& bench);          // C
void bench_router(Bench& bench);        // B5, C
void bench_score(Bench& bench);         // C

// All of them.
void bench_ops(Bench& bench);

}  // namespace eep::bench
