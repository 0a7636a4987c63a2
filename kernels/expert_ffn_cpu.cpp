// expert_ffn on the CPU: h = silu(x W_gate^T) * (x W_up^T), y = h W_down^T for each group's rows, in two
// passes over a grid of units: a segment of the sorted positions times a chunk of panels. A segment may hold
// many small groups or a part of a large one.
#include <algorithm>

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

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

HWY_INLINE int64_t slot_at(const ExpertFfnArgs& args, int64_t position) {
  return args.order ? args.order[position] : position;
}

// Calls block(group, begin, end) for the blocks of rows that lie in positions [begin, end).
template <typename Block>
HWY_INLINE void for_each_block(const ExpertFfnArgs& args, int64_t begin, int64_t end, const Block& block) {
  const int32_t* past =
      std::upper_bound(args.offset, args.offset + args.groups + 1, static_cast<int32_t>(begin));
  for (int64_t group = past - args.offset - 1; group < args.groups && args.offset[group] < end; ++group) {
    const int64_t first = std::max<int64_t>(begin, args.offset[group]);
    const RowBlocks blocks(std::min<int64_t>(end, args.offset[group + 1]) - first);
    for (int64_t b = 0; b < blocks.count; ++b) block(group, first + blocks.begin(b), first + blocks.end(b));
  }
}

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
  constexpr int64_t kSegment = 4 * kBlockRows;
  const int64_t total = args.offset[args.groups];
  const int64_t segments = (total + kSegment - 1) / kSegment;
  const auto for_each_unit = [&](int64_t columns, const auto& unit) {
    const int64_t chunks = chunk_count(columns);
    parallel_for(device, segments * chunks, [&](int64_t i) {
      const int64_t segment = i / chunks;
      unit(total * segment / segments, total * (segment + 1) / segments, i % chunks);
    });
  };
  for_each_unit(args.intermediate, [&](int64_t begin, int64_t end, int64_t chunk) {
    HWY_DYNAMIC_DISPATCH(activate_unit)(args, begin, end, chunk);
  });
  for_each_unit(args.hidden, [&](int64_t begin, int64_t end, int64_t chunk) {
    HWY_DYNAMIC_DISPATCH(project_unit)(args, begin, end, chunk);
  });
}

}  // namespace eep
#endif
