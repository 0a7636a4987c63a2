// gemm: rows times a packed matrix, side by side with OpenBLAS where it is installed (f32 weights, one
// thread); and the products of precision bf16, side by side with f32 rows and bf16 weights.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/gemm_bf16.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/round_rows.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"
#ifdef EEP_OPENBLAS
#include <cblas.h>
#endif

using namespace eep;
using namespace eep::test;

namespace {

void run_bf16(bench::Bench& bench, const GemmCase& c) {
  Data data(c.seed);
  const Floats x = data.floats(c.rows * c.k);
  const Weights w(data.floats(c.n * c.k), c.n, c.k, c.dtype);
  Buffer buffer(gemm_bf16_packed_bytes(c.n, c.k, DType::kF32));
  const PackedMatrix tiles =
      gemm_bf16_pack_cpu(w.values.data(), c.n, c.k, c.k, 1, DType::kF32, buffer.data());
  std::vector<uint16_t> x16(static_cast<size_t>(c.rows * row_stride_16bit(c.k)));
  round_rows_cpu({x.data(), c.rows, c.k, DType::kBF16, x16.data()}, cpu(1));
  Floats out(static_cast<size_t>(c.rows * c.n));
  GemmArgs f32;
  f32.x = x.data();
  f32.rows = c.rows;
  f32.w = w.packed;
  f32.out = out.data();
  f32.out_stride = c.n;
  GemmArgs bf16 = f32;
  bf16.x16 = x16.data();
  bf16.w = tiles;
  bench::Case b;
  b.op = "gemm_bf16";
  b.shape = fmt::format("{}x{}x{}", c.rows, c.n, c.k);
  b.flops = 2.0 * static_cast<double>(c.rows * c.n * c.k);
  b.bytes = static_cast<double>(buffer.bytes()) + 4.0 * static_cast<double>(c.rows * (c.n + c.k));
  b.threads = bench.threads();
  b.run = [&] { gemm_bf16_cpu(bf16, cpu(bench.threads())); };
  b.baseline_name = "f32 rows";
  b.baseline = [&] { gemm_cpu(f32, cpu(bench.threads())); };
  bench.run(b);
}

}  // namespace

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);
#ifdef EEP_OPENBLAS
  openblas_set_num_threads(1);
#endif
  for (const GemmCase& c : kGemmShapes) {
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.k);
    const Weights w(data.floats(c.n * c.k), c.n, c.k, c.dtype);
    Floats out(static_cast<size_t>(c.rows * c.n)), out_blas = out;
    GemmArgs args;
    args.x = x.data();
    args.rows = c.rows;
    args.w = w.packed;
    args.out = out.data();
    args.out_stride = c.n;
    bench::Case b;
    b.op = "gemm";
    b.shape = fmt::format("{}x{}x{} {}", c.rows, c.n, c.k, dtype_name(c.dtype));
    b.flops = 2.0 * static_cast<double>(c.rows * c.n * c.k);
    b.bytes = static_cast<double>(w.packed.bytes()) + 4.0 * static_cast<double>(c.rows * (c.n + c.k));
    b.threads = bench.threads();
    b.run = [&] { gemm_cpu(args, cpu(bench.threads())); };
#ifdef EEP_OPENBLAS
    b.baseline_name = "OpenBLAS";
    b.baseline = [&] {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(c.rows), static_cast<int>(c.n),
                  static_cast<int>(c.k), 1.0f, x.data(), static_cast<int>(c.k), w.values.data(),
                  static_cast<int>(c.k), 0.0f, out_blas.data(), static_cast<int>(c.n));
    };
#endif
    bench.run(b);
  }
  for (const GemmCase& c : kGemmShapes) {
    if (c.dtype == DType::kBF16) run_bf16(bench, c);
  }
  return bench.finish();
}
