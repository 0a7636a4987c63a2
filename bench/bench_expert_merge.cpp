// expert_merge: merged experts from base experts, one read for all rows.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/expert_merge.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const MergeCase& c : kMergeShapes) {
    Data data(c.seed);
    std::vector<Typed> base;
    for (int32_t e = 0; e < c.experts; ++e) base.emplace_back(data.floats(c.elements), c.dtype);
    const Floats coefficient = data.floats(c.rows * c.experts);
    std::vector<const void*> from;
    std::vector<void*> to;
    std::vector<Typed> merged(static_cast<size_t>(c.rows), base[0]);
    for (const Typed& expert : base) from.push_back(expert.bytes.data());
    for (Typed& row : merged) to.push_back(row.bytes.data());
    const ExpertMergeArgs args{from.data(),        c.experts, c.elements, c.dtype,
                               coefficient.data(), c.rows,    to.data()};
    bench::Case b;
    b.op = "expert_merge";
    b.shape = fmt::format("{}->{} of {} {}", c.experts, c.rows, c.elements, dtype_name(c.dtype));
    b.flops = 2.0 * static_cast<double>(c.elements) * c.experts * c.rows;
    b.bytes =
        static_cast<double>(c.elements) * static_cast<double>(dtype_size(c.dtype)) * (c.experts + c.rows);
    b.threads = bench.threads();
    b.run = [&] { expert_merge_cpu(args, cpu(bench.threads())); };
    bench.run(b);
  }
  return bench.finish();
}
