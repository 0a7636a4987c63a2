// rope: rotations in place.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/rope.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const RopeCase& c : kRopeShapes) {
    Data data(c.seed);
    const RopeTable table = rope_table(512, c.head_dim, 1e6);
    Floats x = data.floats(c.rows * c.heads * c.head_dim);
    std::vector<int32_t> position;
    for (int64_t row = 0; row < c.rows; ++row) position.push_back(static_cast<int32_t>(row % 512));
    const RopeArgs args{x.data(),         c.rows, c.heads, c.head_dim, position.data(), table.cosine.data(),
                        table.sine.data()};
    bench::Case b;
    b.op = "rope";
    b.shape = fmt::format("{}x{}x{}", c.rows, c.heads, c.head_dim);
    b.flops = 3.0 * static_cast<double>(x.size());
    b.bytes = 8.0 * static_cast<double>(x.size());
    b.threads = bench.threads();
    b.run = [&] { rope_cpu(args, cpu(bench.threads())); };
    bench.run(b);
  }
  return bench.finish();
}
