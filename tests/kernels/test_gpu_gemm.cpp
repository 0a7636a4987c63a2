// gemm by mma.sync, in few-rows and wide tiles.
#include "tests/kernels/gpu_gemm.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu gemm: values within the bound, same bits in every schedule and batch") {
  check_gemm(GPU_ROW(gemm));
}

TEST_CASE("gpu gemm: gathered rows, bias, old output and a wide stride") {
  check_gathered_gemm(GPU_ROW(gemm));
}

TEST_CASE("gpu gemm: full width, several tiles a block, a ring that wraps many times") {
  check_full_width_gemm(GPU_ROW(gemm));
}

TEST_CASE("gpu gemm: nothing to do, and f32 weights are refused") {
  GemmProblem p(GemmCase{1, 8, 8, DType::kBF16, 15});
  CHECK(p.run(0, 0).empty());
  p.w.packed.dtype = DType::kF32;
  CHECK(throws_with([&] { p.run(0, 1); }, "gemm: weights are F32 (expected BF16 or F16)"));
}
