// expert_ffn: SwiGLU experts over sorted slots against double precision, empty and overloaded experts, a
// dense FFN as one group. On a GPU by mma.sync, in few-rows and wide tiles.
#include "tests/kernels/ops/expert_problem.h"

using namespace eep;
using namespace eep::test;

EVERY_ROW("expert_ffn: both products within their bounds, same bits everywhere") {
  check_all_products<Row>();
}

EVERY_ROW("expert_ffn: biases and a limit") { check_biases<Row>(); }

EVERY_ROW("expert_ffn: a row has the same bits in every batch, in small and in large groups") {
  check_all_batches<Row>();
}

EVERY_ROW("expert_ffn: rows at odd addresses, slots left out, no order, no rows") { check_edges<Row>(); }

EVERY_ROW("expert_ffn: many groups, most of them empty") { check_many_groups<Row>(); }

EVERY_ROW("expert_ffn: full width, several tiles a block, a ring that wraps many times") {
  check_full_width<Row>();
}

TEST_CASE("gpu expert_ffn: f32 weights are refused") {
  Experts<Gpu> experts(ExpertCase{1, 1, 1, 8, 8, DType::kBF16, 0, 80});
  experts.matrices[0].up.dtype = DType::kF32;
  CHECK(throws_with([&] { experts.run(0, 1); }, "expert_ffn: weights of group 0 are F32"));
}
