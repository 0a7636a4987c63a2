// gemm by wgmma, fed by TMA, in narrow and wide tiles: what test_gpu_gemm.cpp asks of mma.sync. See
// test_gpu_expert_ffn_sm90.cpp for why the names of these cases have wgmma in them.
#include "kernels/round_rows.h"
#include "tests/kernels/gpu_gemm.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu gemm wgmma: values within the bound, same bits in every schedule and batch") {
  if (wgmma_here()) check_gemm(GPU_ROW(gemm_sm90));
}

TEST_CASE("gpu gemm wgmma: gathered rows, bias, old output and a wide stride") {
  if (wgmma_here()) check_gathered_gemm(GPU_ROW(gemm_sm90));
}

TEST_CASE("gpu gemm wgmma: full width, several tiles a block, a ring that wraps many times") {
  if (wgmma_here()) check_full_width_gemm(GPU_ROW(gemm_sm90));
}

// As many tiles as multiprocessors take wide tiles, one fewer narrow ones: the same bits.
TEST_CASE("gpu gemm wgmma: narrow and wide tiles give a row the same bits") {
  if (!wgmma_here()) return;
  GemmProblem problem(GemmCase{300, 300, 200, DType::kBF16, 19});
  problem.op = GPU_ROW(gemm_sm90);
#ifndef EEP_TEST_CUDA
  simt::schedule.multiprocessors = 6;  // 3 x 2 tiles of all rows
#endif
  const Floats wide = problem.run(0, 300), narrow = problem.run(0, 100);
  simt::schedule = {};
  CHECK(same_bits(narrow.data(), wide.data(), 100 * problem.c.n));
}

TEST_CASE("gpu round_rows: nearest even, zeros beyond the row, at any address") {
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    for (const RowsCase& c : kRowsCases) {
      for (int64_t shift : {0, 1}) {
        CAPTURE(c.seed);
        const Floats x = Data(c.seed).floats(shift + c.rows * c.width, 100.0f);
        const std::vector<uint16_t> out = same_bits_in_schedules([&] {
          const OnDevice<float> in(x);
          const OnDevice<uint16_t> bits(c.rows * row_stride_16bit(c.width), uint16_t{0x7fff});
          GPU_ROW(round_rows)({in.data() + shift, c.rows, c.width, dtype, bits.data()}, gpu_device());
          return bits.values();
        });
        CHECK(same_bits(out, rows_16bit(Floats(x.begin() + shift, x.end()), c.rows, c.width, dtype)));
      }
    }
  }
}
