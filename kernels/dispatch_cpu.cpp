// dispatch on the CPU: a stable counting sort of token slots by expert group. Integers only, one pass to
// count and one to place; it is a thousandth of the experts' own work, so one thread does it.
#include <algorithm>

#include "kernels/dispatch.h"

namespace eep {
namespace {

// Calls visit(slot, group) for every slot in use, in ascending order.
template <typename Visit>
void for_each_slot(const DispatchArgs& args, const Visit& visit) {
  for (int64_t row = 0; row < args.rows; ++row) {
    const int64_t map = args.map_of_row ? args.map_of_row[row] : 0;
    const int32_t* group_of = args.group_of + map * args.group_stride;
    for (int64_t slot = row * args.slots; slot < (row + 1) * args.slots; ++slot) {
      if (args.expert[slot] >= 0) visit(static_cast<int32_t>(slot), group_of[args.expert[slot]]);
    }
  }
}

void find_equal_slots(const DispatchArgs& args) {
  std::fill(args.first_slot, args.first_slot + static_cast<int64_t>(args.sources) * args.groups, -1);
  for_each_slot(args, [&](int32_t slot, int32_t group) {
    int32_t& first =
        args.first_slot[static_cast<int64_t>(args.source_row[slot / args.slots]) * args.groups + group];
    if (first < 0) first = slot;
    args.slot_row[slot] = first;
  });
}

}  // namespace

void dispatch_cpu(const DispatchArgs& args, const Device&) {
  check(args);
  // offset[g + 1] counts group g, then becomes the next free position of group g, which ends as the first
  // position of group g + 1.
  std::fill(args.offset, args.offset + args.groups + 1, 0);
  if (args.source_row) find_equal_slots(args);
  const auto listed = [&](int32_t slot) { return !args.source_row || args.slot_row[slot] == slot; };
  for_each_slot(args, [&](int32_t slot, int32_t group) { args.offset[group + 1] += listed(slot); });
  int32_t first = 0;
  for (int32_t group = 0; group < args.groups; ++group) {
    const int32_t count = args.offset[group + 1];
    args.offset[group + 1] = first;
    first += count;
  }
  for_each_slot(args, [&](int32_t slot, int32_t group) {
    if (listed(slot)) args.order[args.offset[group + 1]++] = slot;
  });
}

}  // namespace eep
