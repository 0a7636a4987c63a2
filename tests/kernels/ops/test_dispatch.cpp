// dispatch: the order is the stable sort by group, exact; slots shared by equal source rows are listed once.
#include <map>

#include "tests/kernels/ops/op_rows.h"

using namespace eep;
using namespace eep::test;

namespace {

struct DispatchProblem {
  std::vector<int32_t> expert, map_of_row, group_of, source_row;
  int64_t rows = 0;
  int32_t slots = 0, stride = 0, groups = 0, sources = 0;

  // Maps of `experts` to groups, some of which stay empty, and slots of which some are not used. skew: as of
  // ExpertCase; sources: rows that may be equal, or 0
  DispatchProblem(uint64_t seed, int64_t rows_, int32_t slots_, int32_t experts, int32_t groups_,
                  int32_t maps, int skew, int32_t sources_)
      : rows(rows_), slots(slots_), stride(experts), groups(groups_), sources(sources_) {
    Data data(seed);
    for (int32_t i = 0; i < maps * experts; ++i) group_of.push_back(static_cast<int32_t>(data.below(groups)));
    for (int64_t row = 0; row < rows; ++row) {
      if (maps > 1) map_of_row.push_back(static_cast<int32_t>(data.below(maps)));
      if (sources > 0) source_row.push_back(static_cast<int32_t>(data.below(sources)));
      for (int32_t j = 0; j < slots; ++j) {
        const int32_t lowest = skew == 2 ? experts / 2 : 0;
        const int32_t e = skew == 1 ? 0 : lowest + static_cast<int32_t>(data.below(experts - lowest));
        expert.push_back(data.uniform() < 0.1 ? -1 : e);
      }
    }
  }

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

  // The definition: for each group its slots ascending; of equal source rows the first slot alone.
  std::vector<int32_t> expected() const {
    std::vector<std::vector<int32_t>> members(static_cast<size_t>(groups));
    std::map<std::pair<int32_t, int32_t>, int32_t> first;  // (source, group) -> slot
    std::vector<int32_t> offset{0}, order, slot_row;
    for (size_t slot = 0; slot < expert.size(); ++slot) {
      slot_row.push_back(static_cast<int32_t>(slot));
      if (expert[slot] < 0) continue;
      const size_t row = slot / static_cast<size_t>(slots);
      const int32_t map = map_of_row.empty() ? 0 : map_of_row[row];
      const int32_t group = group_of[static_cast<size_t>(map * stride + expert[slot])];
      if (sources > 0)
        slot_row.back() = first.try_emplace({source_row[row], group}, slot_row.back()).first->second;
      if (slot_row.back() == static_cast<int32_t>(slot))
        members[static_cast<size_t>(group)].push_back(slot_row.back());
    }
    for (const std::vector<int32_t>& group : members) {
      order.insert(order.end(), group.begin(), group.end());
      offset.push_back(static_cast<int32_t>(order.size()));
    }
    return flat(offset, order, slot_row);
  }

  template <class Row>
  std::vector<int32_t> run(const Device& device) const {
    const Input<Row, int32_t> expert_in(expert);
    const int64_t total = static_cast<int64_t>(expert.size());
    const Output<Row, int32_t> offset(groups + 1, -7), order(total, -7), slot_row(total, -7),
        first(int64_t{sources} * groups, -7);
    DispatchArgs args;
    args.expert = expert_in.data();
    args.rows = rows;
    args.slots = slots;
    args.map_of_row = map_of_row.empty() ? nullptr : map_of_row.data();
    args.group_of = group_of.data();
    args.group_stride = stride;
    args.groups = groups;
    args.offset = offset.data();
    args.order = order.data();
    args.source_row = source_row.empty() ? nullptr : source_row.data();
    args.sources = sources;
    args.slot_row = slot_row.data();
    args.first_slot = first.data();
    call(Row(), args, device);
    return flat(offset.values(), order.values(), slot_row.values());
  }
};

template <class Row>
void check_dispatch(const DispatchProblem& p) {
  CHECK(Row::same_bits([&](const Device& device) { return p.run<Row>(device); }) == p.expected());
}

}  // namespace

EVERY_ROW("dispatch: equals the stable sort by group, with maps, empty groups, unused slots, equal sources") {
  for (const ExpertCase& c : kExpertCases) {
    for (int32_t maps : {1, 3}) {
      for (int32_t sources : {0, 5}) {
        CAPTURE(c.seed);
        CAPTURE(maps);
        CAPTURE(sources);
        check_dispatch<Row>({c.seed, c.rows, c.slots, c.experts, c.experts + 2, maps, c.skew, sources});
      }
    }
  }
  check_dispatch<Row>({170, 60, 3, 7, 5, 1, 0, 20});
}

EVERY_ROW("dispatch: several chunks, more groups than threads or than shared memory has places, no rows") {
  check_dispatch<Row>({171, 2600, 1, 12, 12, 1, 0, 0});
  check_dispatch<Row>({172, 900, 2, 40, 2500, 3, 0, 0});   // a table a warp for fewer warps
#ifndef EEP_SANITIZED                                      // minutes of one loop
  check_dispatch<Row>({173, 120, 2, 40, 13000, 3, 0, 7});  // in device memory
#endif
  check_dispatch<Row>({174, 500, 3, 40, 700, 20, 0, 0});
  check_dispatch<Row>({175, 700, 2, 8, 8, 1, 0, 90});
  check_dispatch<Row>({176, 0, 2, 8, 8, 1, 0, 0});
  DispatchProblem none(177, 70, 2, 8, 8, 1, 0, 0);
  std::fill(none.expert.begin(), none.expert.end(), -1);
  check_dispatch<Row>(none);
}
