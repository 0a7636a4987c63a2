// dispatch: the order is the stable sort by group, exact; slots shared by equal source rows are listed once.
#include <algorithm>
#include <map>

#include "kernels/dispatch.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

struct Sorted {
  std::vector<int32_t> offset, order;
};

// The definition: for each group, its slots ascending.
Sorted sort_by_group(const std::vector<int32_t>& group_of_slot, int32_t groups) {
  Sorted out;
  out.offset.push_back(0);
  for (int32_t group = 0; group < groups; ++group) {
    for (size_t slot = 0; slot < group_of_slot.size(); ++slot) {
      if (group_of_slot[slot] == group) out.order.push_back(static_cast<int32_t>(slot));
    }
    out.offset.push_back(static_cast<int32_t>(out.order.size()));
  }
  return out;
}

}  // namespace

TEST_CASE("dispatch: equals the stable sort by group, with maps, empty groups and unused slots") {
  for (const ExpertCase& c : kExpertCases) {
    for (int32_t maps : {1, 3}) {
      CAPTURE(c.seed);
      CAPTURE(maps);
      Data data(c.seed);
      const int32_t groups = c.experts + 2;
      std::vector<int32_t> expert, map_of_row, group_of, group_of_slot;
      for (int32_t i = 0; i < maps * c.experts; ++i)
        group_of.push_back(static_cast<int32_t>(data.below(groups)));
      for (int64_t row = 0; row < c.rows; ++row) {
        map_of_row.push_back(static_cast<int32_t>(data.below(maps)));
        for (int32_t j = 0; j < c.slots; ++j) {
          const int32_t e = c.skew == 1 ? 0
                            : c.skew == 2
                                ? c.experts / 2 + static_cast<int32_t>(data.below(c.experts - c.experts / 2))
                                : static_cast<int32_t>(data.below(c.experts));
          expert.push_back(data.uniform() < 0.1 ? -1 : e);
          group_of_slot.push_back(expert.back() < 0
                                      ? -1
                                      : group_of[static_cast<size_t>(
                                            (maps > 1 ? map_of_row.back() : 0) * c.experts + expert.back())]);
        }
      }
      const Sorted expected = sort_by_group(group_of_slot, groups);
      for (int threads : {1, 3}) {
        Sorted actual;
        actual.offset.assign(static_cast<size_t>(groups + 1), -7);
        actual.order.assign(expert.size(), -7);
        DispatchArgs args;
        args.expert = expert.data();
        args.rows = c.rows;
        args.slots = c.slots;
        args.map_of_row = maps > 1 ? map_of_row.data() : nullptr;
        args.group_of = group_of.data();
        args.group_stride = c.experts;
        args.groups = groups;
        args.offset = actual.offset.data();
        args.order = actual.order.data();
        dispatch_cpu(args, cpu(threads));
        CHECK(actual.offset == expected.offset);
        actual.order.resize(expected.order.size());
        CHECK(actual.order == expected.order);
      }
    }
  }
}

TEST_CASE("dispatch: with source rows, an expert sees each distinct row once") {
  Data data(170);
  const int64_t rows = 60;
  const int32_t slots = 3, experts = 7, groups = 5, sources = 20;
  std::vector<int32_t> expert, source_row, group_of, group_of_slot, first_of_slot;
  for (int32_t e = 0; e < experts; ++e) group_of.push_back(static_cast<int32_t>(data.below(groups)));
  std::map<std::pair<int32_t, int32_t>, int32_t> first;  // (source, group) -> slot
  for (int64_t row = 0; row < rows; ++row) {
    source_row.push_back(static_cast<int32_t>(data.below(sources)));
    for (int32_t j = 0; j < slots; ++j) {
      const int32_t slot = static_cast<int32_t>(expert.size());
      expert.push_back(data.uniform() < 0.1 ? -1 : static_cast<int32_t>(data.below(experts)));
      if (expert.back() < 0) {
        first_of_slot.push_back(-1);
        group_of_slot.push_back(-1);
        continue;
      }
      const int32_t group = group_of[static_cast<size_t>(expert.back())];
      first_of_slot.push_back(first.try_emplace({source_row.back(), group}, slot).first->second);
      group_of_slot.push_back(first_of_slot.back() == slot ? group : -1);
    }
  }
  const Sorted expected = sort_by_group(group_of_slot, groups);
  std::vector<int32_t> offset(groups + 1), order(expert.size()), slot_row(expert.size(), -7);
  std::vector<int32_t> first_slot(static_cast<size_t>(sources * groups));
  DispatchArgs args;
  args.expert = expert.data();
  args.rows = rows;
  args.slots = slots;
  args.group_of = group_of.data();
  args.group_stride = experts;
  args.groups = groups;
  args.offset = offset.data();
  args.order = order.data();
  args.source_row = source_row.data();
  args.sources = sources;
  args.slot_row = slot_row.data();
  args.first_slot = first_slot.data();
  dispatch_cpu(args, cpu(1));
  CHECK(offset == expected.offset);
  order.resize(expected.order.size());
  CHECK(order == expected.order);
  for (size_t slot = 0; slot < expert.size(); ++slot) {
    if (expert[slot] >= 0) CHECK(slot_row[slot] == first_of_slot[slot]);
  }
}
