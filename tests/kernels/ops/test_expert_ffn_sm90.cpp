// expert_ffn by wgmma, fed by TMA: what test_expert_ffn.cpp asks of mma.sync. A kernel that waits for what
// never comes hangs its process: a machine with a GPU runs these cases last and by themselves (filter
// "*wgmma*").
#include "tests/kernels/ops/expert_problem.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu expert_ffn wgmma: both products of a small case within their bounds") {
  if (wgmma_here()) check_products(Experts<GpuSm90>(ExpertCase{5, 1, 1, 330, 140, DType::kBF16, 0, 79}));
}

TEST_CASE("gpu expert_ffn wgmma: both products within their bounds under every schedule") {
  if (wgmma_here()) check_all_products<GpuSm90>();
}

TEST_CASE("gpu expert_ffn wgmma: biases and a limit") {
  if (wgmma_here()) check_biases<GpuSm90>();
}

TEST_CASE("gpu expert_ffn wgmma: a row has the same bits in every batch, in small and in large groups") {
  if (wgmma_here()) check_all_batches<GpuSm90>();
}

TEST_CASE("gpu expert_ffn wgmma: rows at odd addresses, slots left out, no order, no rows") {
  if (wgmma_here()) check_edges<GpuSm90>();
}

TEST_CASE("gpu expert_ffn wgmma: many groups, most of them empty") {
  if (wgmma_here()) check_many_groups<GpuSm90>();
}

TEST_CASE("gpu expert_ffn wgmma: full width, several tiles a block, a ring that wraps many times") {
  if (wgmma_here()) check_full_width<GpuSm90>();
}
