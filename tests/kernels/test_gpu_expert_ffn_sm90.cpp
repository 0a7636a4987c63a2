// expert_ffn by wgmma, fed by TMA: what test_gpu_expert_ffn.cpp asks of mma.sync. A kernel that waits for
// what never comes hangs its process: a machine with a GPU runs these cases last and by themselves (filter
// "*wgmma*").
#include "tests/kernels/gpu_experts.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu expert_ffn wgmma: both products of a small case within their bounds") {
  if (!wgmma_here()) return;
  Experts experts(ExpertCase{5, 1, 1, 330, 140, DType::kBF16, 0, 79});
  experts.op = GPU_ROW(expert_ffn_sm90);
  check_products(experts);
}

TEST_CASE("gpu expert_ffn wgmma: both products within their bounds under every schedule") {
  if (wgmma_here()) check_all_products(GPU_ROW(expert_ffn_sm90));
}

TEST_CASE("gpu expert_ffn wgmma: biases and a limit") {
  if (wgmma_here()) check_biases(GPU_ROW(expert_ffn_sm90));
}

TEST_CASE("gpu expert_ffn wgmma: a row has the same bits in every batch, in small and in large groups") {
  if (wgmma_here()) check_all_batches(GPU_ROW(expert_ffn_sm90));
}

TEST_CASE("gpu expert_ffn wgmma: rows at odd addresses, slots left out, no order, no rows") {
  if (wgmma_here()) check_edges(GPU_ROW(expert_ffn_sm90));
}

TEST_CASE("gpu expert_ffn wgmma: many groups, most of them empty") {
  if (wgmma_here()) check_many_groups(GPU_ROW(expert_ffn_sm90));
}

TEST_CASE("gpu expert_ffn wgmma: full width, several tiles a block, a ring that wraps many times") {
  if (!wgmma_here()) return;
  for (const ExpertCase& c : kFullExpertCases) check_full_width(c, GPU_ROW(expert_ffn_sm90));
}
