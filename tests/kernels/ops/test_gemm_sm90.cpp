// gemm by wgmma, fed by TMA, in narrow and wide tiles: what test_gemm.cpp asks of mma.sync. See
// test_expert_ffn_sm90.cpp for why the names of these cases have wgmma in them.
#include "tests/kernels/ops/gemm_problem.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu gemm wgmma: values within the bound, same bits in every schedule and batch") {
  if (wgmma_here()) check_gemm<GpuSm90>();
}

TEST_CASE("gpu gemm wgmma: gathered rows, bias, old output and a wide stride") {
  if (wgmma_here()) check_gathered_gemm<GpuSm90>();
}

TEST_CASE("gpu gemm wgmma: full width, several tiles a block, a ring that wraps many times") {
  if (wgmma_here()) check_full_width_gemm<GpuSm90>();
}

// As many tiles as multiprocessors take wide tiles, one fewer narrow ones: the same bits.
TEST_CASE("gpu gemm wgmma: narrow and wide tiles give a row the same bits") {
  if (!wgmma_here()) return;
  const GemmProblem<GpuSm90> problem(GemmCase{300, 300, 200, DType::kBF16, 19});
#ifndef EEP_TEST_CUDA
  simt::schedule.multiprocessors = 6;  // 3 x 2 tiles of all rows
#endif
  const Floats wide = problem.run(0, 300), narrow = problem.run(0, 100);
  simt::schedule = {};
  CHECK(same_bits(narrow.data(), wide.data(), 100 * problem.c.n));
}
