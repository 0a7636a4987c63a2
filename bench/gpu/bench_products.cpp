// B2: dense projections of each model on 32768 rows, and 8192^3, beside cuBLAS on bf16 rows.
#include <fmt/format.h>

#include "bench/gpu/device_bench.h"
#include "bench/gpu/yardsticks.h"

namespace eep::bench {
namespace {

void product_case(DeviceBench& bench, OpCase c, int64_t rows, int64_t n, int64_t k) {
  const DeviceBuffer x = bench.random(rows * k, DType::kF32);
  const DeviceBuffer w = bench.random_matrix(n, k);
  const DeviceBuffer out = bench.empty(rows * n * 4);
  DeviceBuffer x16, other;
  if (cublas_here(bench.device())) {
    x16 = bench.random(rows * k, DType::kBF16);
    other = bench.empty(rows * n * 4);
    c.baseline = [&] { cublas_product(x16.data(), w.data(), other.data(), rows, n, k, bench.device()); };
  }
  GemmArgs args;
  args.x = x.as<float>();
  const DeviceBuffer x_rounded = bench.rounded(x, rows, k);
  args.x16 = x_rounded.as<uint16_t>();
  args.rows = rows;
  args.w = {w.data(), bench.weights(), n, k};
  args.out = out.as<float>();
  args.out_stride = n;
  c.flops = 2.0 * static_cast<double>(rows) * static_cast<double>(n * k);
  c.bytes = 2.0 * static_cast<double>(n * k) + 4.0 * static_cast<double>(rows * (n + k));
  c.out = &out;
  c.run = [&] { bench.ops().gemm(args, bench.device()); };
  bench.run(c);
}

// The ground of the choice of our own kernel for dense products: is a row's result cuBLAS's own affair?
void note_batches(DeviceBench& bench, const ModelShape& model) {
  if (!cublas_here(bench.device())) return;
  const int64_t n = model.hidden, k = model.heads * model.head_dim, rows = 4096;
  const std::string shape = fmt::format("{} {}x{}", model.name, n, k);
  bench.note("B2", "cublasLt", shape, [&] {
    const DeviceBuffer x = bench.random(rows * k, DType::kBF16), w = bench.random(n * k, DType::kBF16);
    const DeviceBuffer out = bench.empty(2 * rows * n * 4);
    return fmt::format("cuBLASLt with one algorithm, {}, rows in batches of 1 and 64 against 4096: {}.",
                       shape, cublas_batches(x.data(), w.data(), out.data(), n, k, bench.device()));
  });
}

}  // namespace

void bench_products(DeviceBench& bench) {
  const auto add = [&](const std::string& name, int64_t rows, int64_t n, int64_t k) {
    bench.attempt("B2", "gemm", fmt::format("{} {}x{}x{}", name, rows, n, k),
                  [&](OpCase c) { product_case(bench, std::move(c), rows, n, k); });
  };
  const int64_t rows = bench.tiny() ? 40 : 32768;
  for (int number = 0; number < kModelCount; ++number) {
    if (bench.skips(number)) continue;
    const ModelShape model = shape_of(kModels[number], bench.tiny());
    const int64_t heads = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
    add(std::string(model.name) + " q", rows, heads, model.hidden);
    add(std::string(model.name) + " k", rows, kv, model.hidden);
    add(std::string(model.name) + " o", rows, model.hidden, heads);
    note_batches(bench, model);
  }
  const int64_t size = bench.tiny() ? 72 : 8192;
  add("square", size, size, size);
}

}  // namespace eep::bench
