// gemm: rows times a packed matrix, side by side with OpenBLAS where it is installed (f32 weights, one
// thread).
#include <fmt/core.h>

#include "bench/bench.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"
#ifdef EEP_OPENBLAS
#include <cblas.h>
#endif

using namespace eep;
using namespace eep::test;

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
  return bench.finish();
}
