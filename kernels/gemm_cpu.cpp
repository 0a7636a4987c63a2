// gemm on the CPU: out[m, n] = sum_k x[m, k] * w[n, k] (+ bias[n]) (+ out[m, n]) over packed panels. A unit
// of work is a block of rows times a chunk of panels.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/gemm_schedule.h"
#include "kernels/cpu/parallel.h"
#include "kernels/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

void gemm_unit(const GemmArgs& args, int64_t row_begin, int64_t row_end, int64_t chunk) {
  const int64_t row_count = row_end - row_begin;
  const int64_t first_panel = chunk * kChunkPanels;
  const int panels = chunk_panels(args.w.n, chunk);
  const float* rows[kBlockRows];
  for (int64_t r = 0; r < row_count; ++r) {
    const int64_t row = row_begin + r;
    rows[r] = args.x + (args.x_index ? args.x_index[row] : row) * args.w.k;
  }
  HWY_ALIGN float product[kBlockRows * kChunkColumns];
  matrix_product(args.w, first_panel, panels, rows, row_count, product);

  for (int p = 0; p < panels; ++p) {
    const int64_t column = (first_panel + p) * kPanel;
    const int64_t width = std::min(kPanel, args.w.n - column);
    const Lanes bias = args.bias ? load_first(args.bias + column, width) : zero();
    for (int64_t r = 0; r < row_count; ++r) {
      float* out = args.out + (row_begin + r) * args.out_stride + column;
      Lanes sum = load(product + r * kChunkColumns + p * kLanes);
      if (args.bias) sum = sum + bias;
      if (args.accumulate) sum = sum + load_first(out, width);
      store_first(sum, out, width);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(gemm_unit);

void gemm_cpu(const GemmArgs& args, const Device& device) {
  check(args);
  const RowBlocks blocks(args.rows);
  const int64_t chunks = chunk_count(args.w.n);
  parallel_for(device, blocks.count * chunks, [&](int64_t unit) {
    const int64_t block = unit / chunks;
    HWY_DYNAMIC_DISPATCH(gemm_unit)(args, blocks.begin(block), blocks.end(block), unit % chunks);
  });
}

}  // namespace eep
#endif
