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

// A panel of a matrix of one column: 16 of its rows.
HWY_INLINE Lanes bias_panel(const PackedMatrix& bias, int64_t panel) {
  const int64_t at = panel * kLanes;
  switch (bias.dtype) {
    case DType::kBF16:
      return load_paired(static_cast<const Bf16*>(bias.data) + at);
    case DType::kF16:
      return load(static_cast<const F16*>(bias.data) + at);
    default:
      return load(static_cast<const float*>(bias.data) + at);
  }
}

// activation[position, columns of the chunk] = silu(gate) * up, or what expert_ffn.h says
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
    const ExpertMatrices& expert = args.experts[group];
    matrix_product(expert.gate, first_panel, panels, rows, last - first, gate);
    matrix_product(expert.up, first_panel, panels, rows, last - first, up);
    for (int64_t p = first; p < last; ++p) {
      const int64_t at = (p - first) * kChunkColumns;
      for (int64_t c = 0; c < panels * kPanel; c += kPanel) {
        const int64_t column = first_panel * kPanel + c;
        Lanes g = load(gate + at + c), u = load(up + at + c);
        if (expert.gate_bias) {
          g = g + bias_panel(expert.gate_bias, column / kPanel);
          u = u + bias_panel(expert.up_bias, column / kPanel);
        }
        store_first(gated_unit(g, u, args.limit, args.alpha),
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
    const ExpertMatrices& expert = args.experts[group];
    matrix_product(expert.down, first_panel, panels, rows, last - first, product);
    for (int64_t p = first; p < last; ++p) {
      float* out = args.out + slot_at(args, p) * args.hidden;
      for (int64_t c = 0; c < panels * kPanel; c += kPanel) {
        const int64_t column = first_panel * kPanel + c;
        Lanes y = load(product + (p - first) * kChunkColumns + c);
        if (expert.down_bias) y = y + bias_panel(expert.down_bias, column / kPanel);
        store_first(y, out + column, args.hidden - column);
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
