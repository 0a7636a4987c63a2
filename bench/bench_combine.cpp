// combine: weighted slots and a gated shared expert, added to the residual.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/combine.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const RowsCase& c : kRowsShapes) {
    for (int32_t slots : {2, 4}) {
      Data data(c.seed);
      const Floats slot_out = data.floats(c.rows * slots * c.width), weight = data.floats(c.rows * slots);
      const Floats shared = data.floats(c.rows * c.width), gate = data.floats(c.rows);
      const std::vector<int32_t> expert(weight.size(), 1);
      Floats residual(shared.size());
      CombineArgs args;
      args.slot_out = slot_out.data();
      args.weight = weight.data();
      args.expert = expert.data();
      args.rows = c.rows;
      args.slots = slots;
      args.hidden = c.width;
      args.shared_out = shared.data();
      args.shared_gate = gate.data();
      args.residual = residual.data();
      bench::Case b;
      b.op = "combine";
      b.shape = fmt::format("{}x{} slots {} shared", c.rows, c.width, slots);
      b.flops = 2.0 * static_cast<double>(c.rows * c.width) * (slots + 1);
      b.bytes = 4.0 * static_cast<double>(c.rows * c.width) * (slots + 3);
      b.threads = bench.threads();
      b.run = [&] { combine_cpu(args, cpu(bench.threads())); };
      bench.run(b);
    }
  }
  return bench.finish();
}
