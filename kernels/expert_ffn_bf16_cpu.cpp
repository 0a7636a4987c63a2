// expert_ffn of precision bf16 on the CPU (gemm_bf16.h): h = silu(x W_gate^T) * (x W_up^T), rounded, and y =
// h W_down^T for each group's rows, in two passes over the units of expert_ffn_walk.h.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/expert_ffn_bf16_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_bf16_panel.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/expert_ffn_walk.h"
#include "kernels/gemm_bf16.h"
#include "kernels/gpu/tile_schedule.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// h of the chunk's columns, [positions, row_stride_16bit(intermediate)].
template <typename Row>
HWY_INLINE void bf16_activate(const ExpertFfnArgs& args, const Row* x, int64_t x_stride, int64_t begin,
                              int64_t end, int64_t chunk) {
  const int64_t first_panel = chunk * kBf16Panels;
  const int panels = bf16_chunk_panels(args.intermediate, chunk);
  const int64_t stride = row_stride_16bit(args.intermediate);
  auto* const activation = reinterpret_cast<Bf16*>(args.activation);
  HWY_ALIGN float gate[kBlockRows * kBf16Columns];
  HWY_ALIGN float up[kBlockRows * kBf16Columns];
  for_each_block(args, begin, end, [&](int64_t group, int64_t first, int64_t last) HWY_ATTR {
    const Row* rows[kBlockRows];
    for (int64_t p = first; p < last; ++p) rows[p - first] = x + slot_at(args, p) / args.slots * x_stride;
    const ExpertMatrices& expert = args.experts[group];
    const PanelSums parts[] = {{bf16_panel(expert.gate, first_panel), gate},
                               {bf16_panel(expert.up, first_panel), up}};
    bf16_products(parts, 2, panels, args.hidden, rows, last - first, kBf16Columns);
    for (int64_t p = first; p < last; ++p) {
      const int64_t at = (p - first) * kBf16Columns;
      for (int64_t c = 0; c < panels * kPanel; c += kPanel) {
        const int64_t column = first_panel * kPanel + c;
        store_first(silu(load(gate + at + c)) * load(up + at + c), activation + p * stride + column,
                    args.intermediate - column);
      }
    }
  });
}

void bf16_activate_unit(const ExpertFfnArgs& args, int64_t begin, int64_t end, int64_t chunk) {
  if (args.x16 != nullptr) {
    bf16_activate(args, args.x16, row_stride_16bit(args.hidden), begin, end, chunk);
  } else {
    bf16_activate(args, args.x, args.hidden, begin, end, chunk);
  }
}

// out[slot, columns of the chunk] = h W_down^T
void bf16_project_unit(const ExpertFfnArgs& args, int64_t begin, int64_t end, int64_t chunk) {
  const int64_t first_panel = chunk * kBf16Panels;
  const int panels = bf16_chunk_panels(args.hidden, chunk);
  const int64_t stride = row_stride_16bit(args.intermediate);
  const auto* const activation = reinterpret_cast<const uint16_t*>(args.activation);
  HWY_ALIGN float product[kBlockRows * kBf16Columns];
  for_each_block(args, begin, end, [&](int64_t group, int64_t first, int64_t last) HWY_ATTR {
    const uint16_t* rows[kBlockRows];
    for (int64_t p = first; p < last; ++p) rows[p - first] = activation + p * stride;
    const PanelSums part{bf16_panel(args.experts[group].down, first_panel), product};
    bf16_products(&part, 1, panels, args.intermediate, rows, last - first, kBf16Columns);
    for (int64_t p = first; p < last; ++p) {
      float* out = args.out + slot_at(args, p) * args.hidden;
      for (int64_t c = 0; c < panels * kPanel; c += kPanel) {
        const int64_t column = first_panel * kPanel + c;
        store_first(load(product + (p - first) * kBf16Columns + c), out + column, args.hidden - column);
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(bf16_activate_unit);
HWY_EXPORT(bf16_project_unit);

void expert_ffn_bf16_cpu(const ExpertFfnArgs& args, const Device& device) {
  check(args);
  for_each_unit(args, bf16_chunk_count(args.intermediate), device,
                [&](int64_t begin, int64_t end, int64_t chunk) {
                  HWY_DYNAMIC_DISPATCH(bf16_activate_unit)(args, begin, end, chunk);
                });
  for_each_unit(args, bf16_chunk_count(args.hidden), device, [&](int64_t begin, int64_t end, int64_t chunk) {
    HWY_DYNAMIC_DISPATCH(bf16_project_unit)(args, begin, end, chunk);
  });
}

}  // namespace eep
#endif
