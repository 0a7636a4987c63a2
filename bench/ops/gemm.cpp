// gemm. B2: dense projections of each model on 32768 rows, and 8192^3, beside cuBLAS on bf16 rows. C: few
// rows and many by an expert's matrix and by the demo's, on the CPU beside OpenBLAS on f32 weights (one
// thread); and the CPU's products of precision bf16 beside f32 rows and bf16 weights.
#include <fmt/format.h>

#include "bench/gpu/yardsticks.h"
#include "bench/openblas.h"
#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

struct Product {
  DeviceBuffer x, x16, w, out;
  GemmArgs args;

  Product(Bench& bench, int64_t rows, int64_t n, int64_t k, DType dtype = DType::kBF16)
      : x(bench.random(rows * k, DType::kF32)),
        x16(bench.rounded(x, rows, k, dtype)),
        w(bench.random_matrix(n, k, dtype)),
        out(bench.empty(rows * n * 4)) {
    args.x = x.as<float>();
    args.x16 = x16.as<uint16_t>();
    args.rows = rows;
    args.w = bench.packed(w, n, k, dtype);
    args.out = out.as<float>();
    args.out_stride = n;
  }
  double flops() const {
    return 2.0 * static_cast<double>(args.rows) * static_cast<double>(args.w.n * args.w.k);
  }
  double bytes() const {
    return static_cast<double>(w.bytes()) + 4.0 * static_cast<double>(args.rows * (args.w.n + args.w.k));
  }
};

void product_case(Bench& bench, OpCase c, int64_t rows, int64_t n, int64_t k, DType dtype) {
  const Product product(bench, rows, n, k, dtype);
  DeviceBuffer theirs, other;
  if (cublas_here(bench.device())) {
    theirs = bench.random(rows * k, DType::kBF16);
    other = bench.empty(rows * n * 4);
    c.library = "cuBLAS";
    c.baseline = [&] {
      cublas_product(theirs.data(), product.w.data(), other.data(), rows, n, k, bench.device());
    };
  } else if (bench.device().kind == DeviceKind::kCpu && openblas_here()) {
    theirs = bench.random(n * k, DType::kF32);
    other = bench.empty(rows * n * 4);
    c.library = "OpenBLAS";
    c.baseline = [&] { openblas_product(product.args.x, theirs.as<float>(), other.as<float>(), rows, n, k); };
  }
  c.flops = product.flops();
  c.bytes = product.bytes();
  c.out = &product.out;
  c.run = [&] { bench.ops().gemm(product.args, bench.device()); };
  bench.run(c);
}

// The ground of the choice of our own kernel for dense products: is a row's result cuBLAS's own affair?
void note_batches(Bench& bench, const ModelShape& model) {
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

void released_models(Bench& bench) {
  const auto add = [&](const std::string& name, int64_t rows, int64_t n, int64_t k) {
    bench.attempt("B2", "gemm", fmt::format("{} {}x{}x{}", name, rows, n, k),
                  [&](OpCase c) { product_case(bench, std::move(c), rows, n, k, DType::kBF16); });
  };
  const int64_t rows = bench.tiny() ? 40 : 32768;
  for (int number = 0; number < kModelCount; ++number) {
    if (skips(bench, number)) continue;
    const ModelShape model = shape_of(bench, number);
    const int64_t heads = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
    add(std::string(model.name) + " q", rows, heads, model.hidden);
    add(std::string(model.name) + " k", rows, kv, model.hidden);
    add(std::string(model.name) + " o", rows, model.hidden, heads);
    note_batches(bench, model);
  }
  const int64_t size = bench.tiny() ? 72 : 8192;
  add("square", size, size, size);
}

test::GemmCase small_shape(const Bench& bench, test::GemmCase shape) {
  shape.rows = bench.extent(shape.rows, 20);
  shape.n = bench.extent(shape.n, 48);
  shape.k = bench.extent(shape.k, 64);
  return shape;
}

// Of the CPU's other row of ops (gemm_bf16.h), with the weights of f32 rows beside them.
void bf16_case(Bench& bench, OpCase c, const test::GemmCase& shape) {
  const Ops& bf16 = cpu_ops(Precision::kBf16);
  const Product f32(bench, shape.rows, shape.n, shape.k, shape.dtype);
  const DeviceBuffer tiles =
      bench.random(static_cast<int64_t>(bf16.packed_bytes(shape.n, shape.k, shape.dtype)) / 2, DType::kBF16);
  const DeviceBuffer x16 = bench.empty(2 * shape.rows * row_stride_16bit(shape.k)),
                     out = bench.empty(shape.rows * shape.n * 4);
  bf16.round_rows({f32.args.x, shape.rows, shape.k, DType::kBF16, x16.as<uint16_t>()}, bench.device());
  GemmArgs args = f32.args;
  args.x16 = x16.as<uint16_t>();
  args.w = {tiles.data(), DType::kBF16, shape.n, shape.k};
  args.out = out.as<float>();
  c.flops = f32.flops();
  c.bytes = static_cast<double>(tiles.bytes()) + 4.0 * static_cast<double>(shape.rows * (shape.n + shape.k));
  c.out = &out;
  c.run = [&] { bf16.gemm(args, bench.device()); };
  c.library = "f32 rows";
  c.baseline = [&] { bench.ops().gemm(f32.args, bench.device()); };
  bench.run(c);
}

void small_shapes(Bench& bench) {
  for (const test::GemmCase& whole : test::kGemmShapes) {
    const test::GemmCase shape = small_shape(bench, whole);
    bench.attempt(
        "C", "gemm", fmt::format("{}x{}x{} {}", shape.rows, shape.n, shape.k, dtype_name(shape.dtype)),
        [&](OpCase c) { product_case(bench, std::move(c), shape.rows, shape.n, shape.k, shape.dtype); });
  }
  if (bench.device().kind != DeviceKind::kCpu) return;
  for (const test::GemmCase& whole : test::kGemmShapes) {
    if (whole.dtype != DType::kBF16) continue;
    const test::GemmCase shape = small_shape(bench, whole);
    bench.attempt("C", "gemm_bf16", fmt::format("{}x{}x{}", shape.rows, shape.n, shape.k),
                  [&](OpCase c) { bf16_case(bench, std::move(c), shape); });
  }
}

}  // namespace

void bench_gemm(Bench& bench) {
  released_models(bench);
  small_shapes(bench);
}

}  // namespace eep::bench
