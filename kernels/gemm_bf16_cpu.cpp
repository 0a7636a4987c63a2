// gemm of precision bf16 on the CPU (gemm_bf16.h). A unit of work is a block of rows times a chunk of panels.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm_bf16_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_bf16_panel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/gemm_bf16.h"
#include "kernels/gpu/tile_schedule.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

template <typename Row>
HWY_INLINE void bf16_unit_of(const GemmArgs& args, const Row* x, int64_t x_stride, int64_t row_begin,
                             int64_t row_end, int64_t chunk) {
  const int64_t row_count = row_end - row_begin;
  const int64_t first_panel = chunk * kBf16Panels;
  const int panels = bf16_chunk_panels(args.w.n, chunk);
  const Row* rows[kBlockRows];
  for (int64_t r = 0; r < row_count; ++r) {
    const int64_t row = row_begin + r;
    rows[r] = x + (args.x_index ? args.x_index[row] : row) * x_stride;
  }
  HWY_ALIGN float product[kBlockRows * kBf16Columns];
  const PanelSums part{bf16_panel(args.w, first_panel), product};
  bf16_products(&part, 1, panels, args.w.k, rows, row_count, kBf16Columns);

  for (int p = 0; p < panels; ++p) {
    const int64_t column = (first_panel + p) * kPanel;
    const int64_t width = std::min(kPanel, args.w.n - column);
    const Lanes bias = args.bias ? load_first(args.bias + column, width) : zero();
    for (int64_t r = 0; r < row_count; ++r) {
      float* out = args.out + (row_begin + r) * args.out_stride + column;
      Lanes sum = load(product + r * kBf16Columns + p * kLanes);
      if (args.bias) sum = sum + bias;
      if (args.accumulate) sum = sum + load_first(out, width);
      store_first(sum, out, width);
    }
  }
}

void bf16_unit(const GemmArgs& args, int64_t row_begin, int64_t row_end, int64_t chunk) {
  if (args.x16 != nullptr) {
    bf16_unit_of(args, args.x16, row_stride_16bit(args.w.k), row_begin, row_end, chunk);
  } else {
    bf16_unit_of(args, args.x, args.w.k, row_begin, row_end, chunk);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(bf16_unit);

void gemm_bf16_cpu(const GemmArgs& args, const Device& device) {
  check(args);
  const RowBlocks blocks(args.rows);
  const int64_t chunks = bf16_chunk_count(args.w.n);
  parallel_for(device, blocks.count * chunks, [&](int64_t unit) {
    const int64_t block = unit / chunks;
    HWY_DYNAMIC_DISPATCH(bf16_unit)(args, blocks.begin(block), blocks.end(block), unit % chunks);
  });
}

}  // namespace eep
#endif
