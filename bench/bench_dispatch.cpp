// dispatch: the counting sort of slots by expert.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/dispatch.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const ExpertCase& c : kExpertShapes) {
    Data data(c.seed);
    std::vector<int32_t> expert, group, offset(static_cast<size_t>(c.experts + 1));
    for (int64_t slot = 0; slot < c.rows * c.slots; ++slot)
      expert.push_back(static_cast<int32_t>(data.below(c.experts)));
    for (int32_t e = 0; e < c.experts; ++e) group.push_back(e);
    std::vector<int32_t> order(expert.size());
    DispatchArgs args;
    args.expert = expert.data();
    args.rows = c.rows;
    args.slots = c.slots;
    args.group_of = group.data();
    args.groups = c.experts;
    args.offset = offset.data();
    args.order = order.data();
    bench::Case b;
    b.op = "dispatch";
    b.shape = fmt::format("{}x{} experts {}", c.rows, c.slots, c.experts);
    b.bytes = 12.0 * static_cast<double>(expert.size());  // read twice, written once
    b.run = [&] { dispatch_cpu(args, cpu(1)); };
    bench.run(b);
  }
  return bench.finish();
}
