// dispatch: a stable counting sort of token slots by expert group. Slot s = row * slots + j carries expert[s]
// of the plan of its row; its group is group_of[map_of_row[row] * group_stride + expert[s]]. With one-hot
// plans the group is the base expert, shared by all candidates; with merged plans it is the candidate's own
// merged expert. Slots with expert -1 are left out.
//
// Candidates that came to this layer together have equal rows: with source_row, an expert sees each distinct
// row once. slot_row names, for every slot, the slot whose output it shares: itself, or an earlier one of the
// same source row and group, which alone is listed in order.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct DispatchArgs {
  const int32_t* expert = nullptr;  // [rows, slots], -1: none
  int64_t rows = 0;
  int32_t slots = 0;
  const int32_t* map_of_row = nullptr;  // [rows] or null: 0
  const int32_t* group_of = nullptr;    // [maps, group_stride]
  int32_t group_stride = 0;
  int32_t groups = 0;
  int32_t* offset = nullptr;  // [groups + 1] first position of each group in order
  int32_t* order = nullptr;   // [rows * slots] slots sorted by group, ascending within a group
  // [rows] in [0, sources); equal sources have equal x; null: all rows differ
  const int32_t* source_row = nullptr;
  int32_t sources = 0;
  int32_t* slot_row = nullptr;    // [rows * slots], written if source_row is given
  int32_t* first_slot = nullptr;  // [sources * groups] scratch of the caller, if source_row is given
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const DispatchArgs& args) {
  assert(args.rows == 0 || (args.expert != nullptr && args.group_of != nullptr && args.order != nullptr));
  assert(args.rows >= 0 && args.slots > 0 && args.groups >= 0 && args.offset != nullptr);
  assert(args.source_row == nullptr ||
         (args.sources > 0 && args.slot_row != nullptr && args.first_slot != nullptr));
}

void dispatch_cpu(const DispatchArgs& args, const Device& device);

// On a GPU: map_of_row, group_of and source_row are host memory, all else is device memory.
void dispatch_simt(const DispatchArgs& args, const Device& device);
void dispatch_cuda(const DispatchArgs& args, const Device& device);

}  // namespace eep
