// expert_ffn on the CPU: h = silu(x W_gate^T) * (x W_up^T), y = h W_down^T for each group's rows, in two
// passes over the units of expert_ffn_walk.h.
#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/expert_ffn_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/gemm_schedule.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/expert_ffn.h"
#include "kernels/expert_ffn_walk.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// activation[position, columns of the chunk] = silu(gate) * up
void activate_unit(const ExpertFfnArgs& args, int64_t begin, int64_t end, int64_t chunk) {
  const int64_t first_panel = chunk * kChunkPanels;
  const int panels = chunk_panels(args.intermediate, chunk);
  HWY_ALIGN float gate[kBlockRows * kChunkColumns];
  HWY_ALIGN float up[kBlockRows * kChunkColumns];
  for_each_block(args, begin, end, [&](int64_t group, int64_t first, int64_t last) HWY_ATTR {
    const float* rows[kBlockRows];
    for (int64_t p = first; p < last; ++p) {
      rows[p - first] = args.x + slot_at(args, p) / args.slots * args.hidden;
    }
    matrix_product(args.experts[group].gate, first_panel, panels, rows, last - first, gate);
    matrix_product(args.experts[group].up, first_panel, panels, rows, last - first, up);
    for (int64_t p = first; p < last; ++p) {
      const int64_t at = (p - first) * kChunkColumns;
      for (int64_t c = 0; c < panels * kPanel; c += kPanel) {
        const int64_t column = first_panel * kPanel + c;
        store_first(silu(load(gate + at + c)) * load(up + at + c),
                    args.activation + p * args.intermediate + column, args.intermediate - column);
      }
    }
  });
}

// out[slot, columns of the chunk] = activation W_down^T
void project_unit(const ExpertFfnArgs& args, int64_t begin, int64_t end, int64_t chunk) {
  const int64_t first_panel = chunk * kChunkPanels;
  const int panels = chunk_panels(args.hidden, chunk);
  HWY_ALIGN float product[kBlockRows * kChunkColumns];
  for_each_block(args, begin, end, [&](int64_t group, int64_t first, int64_t last) HWY_ATTR {
    const float* rows[kBlockRows];
    for (int64_t p = first; p < last; ++p) rows[p - first] = args.activation + p * args.intermediate;
    matrix_product(args.experts[group].down, first_panel, panels, rows, last - first, product);
    for (int64_t p = first; p < last; ++p) {
      float* out = args.out + slot_at(args, p) * args.hidden;
      for (int64_t c = 0; c < panels * kPanel; c += kPanel) {
        const int64_t column = first_panel * kPanel + c;
        store_first(load(product + (p - first) * kChunkColumns + c), out + column, args.hidden - column);
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(activate_unit);
HWY_EXPORT(project_unit);

void expert_ffn_cpu(const ExpertFfnArgs& args, const Device& device) {
  check(args);
  for_each_unit(args, chunk_count(args.intermediate), device, [&](int64_t begin, int64_t end, int64_t chunk) {
    HWY_DYNAMIC_DISPATCH(activate_unit)(args, begin, end, chunk);
  });
  for_each_unit(args, chunk_count(args.hidden), device, [&](int64_t begin, int64_t end, int64_t chunk) {
    HWY_DYNAMIC_DISPATCH(project_unit)(args, begin, end, chunk);
  });
}

}  // namespace eep
#endif
