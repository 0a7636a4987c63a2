// rmsnorm: norms of hidden rows, and of heads (width 64).
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/rmsnorm.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const RowsCase& c : kRowsShapes) {
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.width), weight = data.floats(c.width);
    Floats out(x.size());
    bench::Case b;
    b.op = "rmsnorm";
    b.shape = fmt::format("{}x{}", c.rows, c.width);
    b.flops = 4.0 * static_cast<double>(c.rows * c.width);
    b.bytes = 8.0 * static_cast<double>(c.rows * c.width);
    b.threads = bench.threads();
    b.run = [&] {
      rmsnorm_cpu({x.data(), c.rows, c.width, weight.data(), 1e-6f, out.data()}, cpu(bench.threads()));
    };
    bench.run(b);
  }
  return bench.finish();
}
