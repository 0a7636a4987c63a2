// expert_ffn by mma.sync: SwiGLU experts over sorted slots against double precision, in few-rows and wide
// tiles, and bits that depend on the row and the expert alone.
#include "tests/kernels/gpu_experts.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu expert_ffn: both products within their bounds under every schedule") {
  check_all_products(GPU_ROW(expert_ffn));
}

TEST_CASE("gpu expert_ffn: biases and a limit") { check_biases(GPU_ROW(expert_ffn)); }

TEST_CASE("gpu expert_ffn: a row has the same bits in every batch, in small and in large groups") {
  check_all_batches(GPU_ROW(expert_ffn));
}

TEST_CASE("gpu expert_ffn: rows at odd addresses, slots left out, no order, no rows") {
  check_edges(GPU_ROW(expert_ffn));
}

TEST_CASE("gpu expert_ffn: many groups, most of them empty") { check_many_groups(GPU_ROW(expert_ffn)); }

TEST_CASE("gpu expert_ffn: f32 weights are refused") {
  Experts experts(ExpertCase{1, 1, 1, 8, 8, DType::kBF16, 0, 80});
  experts.matrices[0].up.dtype = DType::kF32;
  CHECK(throws_with([&] { experts.run(0, 1); }, "expert_ffn: weights of group 0 are F32"));
}

TEST_CASE("gpu expert_ffn: full width, several tiles a block, a ring that wraps many times") {
  for (const ExpertCase& c : kFullExpertCases) check_full_width(c, GPU_ROW(expert_ffn));
}
