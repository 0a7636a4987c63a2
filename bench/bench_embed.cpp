// embed: rows of a table, widened.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/embed.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const RowsCase& c : kRowsShapes) {
      Data data(c.seed);
      const int64_t vocabulary = 2000;
      const Typed table(data.floats(vocabulary * c.width), dtype);
      std::vector<int32_t> token;
      for (int64_t row = 0; row < c.rows; ++row)
        token.push_back(static_cast<int32_t>(data.below(vocabulary)));
      Floats out(static_cast<size_t>(c.rows * c.width));
      EmbedArgs args;
      args.table = Tensor(table.bytes.data(), dtype, {vocabulary, c.width});
      args.token = token.data();
      args.rows = c.rows;
      args.out = out.data();
      bench::Case b;
      b.op = "embed";
      b.shape = fmt::format("{}x{} {}", c.rows, c.width, dtype_name(dtype));
      b.bytes = static_cast<double>(c.rows * c.width) * (4.0 + static_cast<double>(dtype_size(dtype)));
      b.threads = bench.threads();
      b.run = [&] { embed_cpu(args, cpu(bench.threads())); };
      bench.run(b);
    }
  }
  return bench.finish();
}
