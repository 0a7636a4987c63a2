// embed: rows of a table, widened.
#include <fmt/format.h>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

void embed_case(Bench& bench, OpCase c, int64_t rows, int64_t width, DType dtype) {
  constexpr int64_t kVocabulary = 2000;
  const DeviceBuffer table = bench.random(kVocabulary * width, dtype), out = bench.empty(rows * width * 4);
  std::vector<int32_t> token;
  for (int64_t row = 0; row < rows; ++row)
    token.push_back(static_cast<int32_t>(philox({static_cast<uint32_t>(row), 0, 0, 1}, 25)[0] % kVocabulary));
  EmbedArgs args;
  args.table = Tensor(table.data(), dtype, {kVocabulary, width});
  args.token = token.data();
  args.rows = rows;
  args.out = out.as<float>();
  c.bytes = static_cast<double>(rows * width) * (4.0 + static_cast<double>(dtype_size(dtype)));
  c.out = &out;
  c.run = [&] { bench.ops().embed(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_embed(Bench& bench) {
  for (DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const test::RowsCase& shape : test::kRowsShapes) {
      const int64_t rows = bench.extent(shape.rows, 70), width = bench.extent(shape.width, 96);
      bench.attempt("C", "embed", fmt::format("{}x{} {}", rows, width, dtype_name(dtype)),
                    [&](OpCase c) { embed_case(bench, std::move(c), rows, width, dtype); });
    }
  }
}

}  // namespace eep::bench
