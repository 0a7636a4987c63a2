// The GPU's dispatch on the host executor: the order is the CPU's, whose order is the stable sort.
#include <algorithm>

#include "kernels/dispatch.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_support.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

struct Problem {
  std::vector<int32_t> expert, map_of_row, group_of, source_row;
  int64_t rows = 0;
  int32_t slots = 0, stride = 0, groups = 0, sources = 0;

  DispatchArgs args() const {
    DispatchArgs args;
    args.rows = rows;
    args.slots = slots;
    args.map_of_row = map_of_row.empty() ? nullptr : map_of_row.data();
    args.group_of = group_of.data();
    args.group_stride = stride;
    args.groups = groups;
    args.source_row = source_row.empty() ? nullptr : source_row.data();
    args.sources = sources;
    return args;
  }
  int64_t shared() const { return static_cast<int64_t>(sources) * groups; }

  // offset, then the listed slots in order, then slot_row of the slots in use
  std::vector<int32_t> flat(const std::vector<int32_t>& offset, const std::vector<int32_t>& order,
                            const std::vector<int32_t>& slot_row) const {
    std::vector<int32_t> all = offset;
    all.insert(all.end(), order.begin(), order.begin() + offset.back());
    for (size_t slot = 0; slot < expert.size() && sources > 0; ++slot) {
      if (expert[slot] >= 0) all.push_back(slot_row[slot]);
    }
    return all;
  }
  std::vector<int32_t> on_cpu() const {
    std::vector<int32_t> offset(static_cast<size_t>(groups) + 1), order(expert.size()),
        slot_row(expert.size()), first(static_cast<size_t>(shared()));
    DispatchArgs args = this->args();
    args.expert = expert.data();
    args.offset = offset.data();
    args.order = order.data();
    args.slot_row = slot_row.data();
    args.first_slot = first.data();
    dispatch_cpu(args, cpu(1));
    return flat(offset, order, slot_row);
  }
  std::vector<int32_t> on_gpu() const {
    const OnDevice<int32_t> d_expert(expert), offset(groups + 1, -7), order(d_expert.size(), -7),
        slot_row(d_expert.size(), -7), first(shared(), -7);
    DispatchArgs args = this->args();
    args.expert = d_expert.data();
    args.offset = offset.data();
    args.order = order.data();
    args.slot_row = slot_row.data();
    args.first_slot = first.data();
    GPU_ROW(dispatch)(args, gpu_device());
    return flat(offset.values(), order.values(), slot_row.values());
  }
  void check() const {
    CHECK(same_bits_in_schedules([this] { return on_gpu(); }) == on_cpu());
  }
};

Problem make_problem(Data& data, int64_t rows, int32_t slots, int32_t experts, int32_t groups, int32_t maps,
                     int skew, int32_t sources) {
  Problem p;
  p.rows = rows;
  p.slots = slots;
  p.stride = experts;
  p.groups = groups;
  p.sources = sources;
  for (int32_t i = 0; i < maps * experts; ++i) p.group_of.push_back(static_cast<int32_t>(data.below(groups)));
  for (int64_t row = 0; row < rows; ++row) {
    if (maps > 1) p.map_of_row.push_back(static_cast<int32_t>(data.below(maps)));
    if (sources > 0) p.source_row.push_back(static_cast<int32_t>(data.below(sources)));
    for (int32_t j = 0; j < slots; ++j) {
      const int32_t lowest = skew == 2 ? experts / 2 : 0;
      const int32_t e = skew == 1 ? 0 : lowest + static_cast<int32_t>(data.below(experts - lowest));
      p.expert.push_back(data.uniform() < 0.1 ? -1 : e);
    }
  }
  return p;
}

}  // namespace

TEST_CASE(
    "gpu dispatch: equals the stable sort by group, with maps, empty groups, unused slots, equal sources") {
  for (const ExpertCase& c : kExpertCases) {
    for (int32_t maps : {1, 3}) {
      for (int32_t sources : {0, 5}) {
        CAPTURE(c.seed);
        CAPTURE(maps);
        CAPTURE(sources);
        Data data(c.seed);
        make_problem(data, c.rows, c.slots, c.experts, c.experts + 2, maps, c.skew, sources).check();
      }
    }
  }
}

TEST_CASE(
    "gpu dispatch: several chunks, more groups than threads or than shared memory has places, no rows") {
  Data data(171);
  make_problem(data, 2600, 1, 12, 12, 1, 0, 0).check();
  make_problem(data, 900, 2, 40, 2500, 3, 0, 0).check();   // a table a warp for fewer warps
#ifndef EEP_SANITIZED                                      // minutes of one loop
  make_problem(data, 120, 2, 40, 13000, 3, 0, 7).check();  // in device memory
#endif
  make_problem(data, 500, 3, 40, 700, 20, 0, 0).check();
  make_problem(data, 700, 2, 8, 8, 1, 0, 90).check();
  make_problem(data, 0, 2, 8, 8, 1, 0, 0).check();
  Problem none = make_problem(data, 70, 2, 8, 8, 1, 0, 0);
  std::fill(none.expert.begin(), none.expert.end(), -1);
  none.check();
}
