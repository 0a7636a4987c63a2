// How expert_ffn goes over its slots on the CPU: units of work are segments of the sorted positions times
// chunks of panels. A segment may hold many small groups or a part of a large one. The cut never shows in a
// result.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/gemm_schedule.h"
#include "kernels/cpu/parallel.h"
#include "kernels/expert_ffn.h"

namespace eep {

inline int64_t slot_at(const ExpertFfnArgs& args, int64_t position) {
  return args.order ? args.order[position] : position;
}

// Calls block(group, begin, end) for the blocks of rows that lie in positions [begin, end).
template <typename Block>
void for_each_block(const ExpertFfnArgs& args, int64_t begin, int64_t end, const Block& block) {
  const int32_t* past =
      std::upper_bound(args.offset, args.offset + args.groups + 1, static_cast<int32_t>(begin));
  for (int64_t group = past - args.offset - 1; group < args.groups && args.offset[group] < end; ++group) {
    const int64_t first = std::max<int64_t>(begin, args.offset[group]);
    const RowBlocks blocks(std::min<int64_t>(end, args.offset[group + 1]) - first);
    for (int64_t b = 0; b < blocks.count; ++b) block(group, first + blocks.begin(b), first + blocks.end(b));
  }
}

// Calls unit(begin, end, chunk) for every segment of the positions and every chunk of panels.
template <typename Unit>
void for_each_unit(const ExpertFfnArgs& args, int64_t chunks, const Device& device, const Unit& unit) {
  constexpr int64_t kSegment = 4 * kBlockRows;
  const int64_t total = args.offset[args.groups];
  const int64_t segments = (total + kSegment - 1) / kSegment;
  parallel_for(device, segments * chunks, [&](int64_t i) {
    const int64_t segment = i / chunks;
    unit(total * segment / segments, total * (segment + 1) / segments, i % chunks);
  });
}

}  // namespace eep
