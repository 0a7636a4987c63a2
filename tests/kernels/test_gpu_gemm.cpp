// gemm on the host executor: values within the bound in every schedule, and bits that depend on nothing but
// the row of x and the row of w.
#include "kernels/error.h"
#include "kernels/gemm.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_matrices.h"

using namespace eep;
using namespace eep::test;

namespace {

struct Problem {
  GemmCase c;
  DType dtype;
  Floats x;
  DeviceWeights w;

  explicit Problem(const GemmCase& case_)
      : c(case_),
        dtype(dtype_on_gpu(c.dtype)),
        x(Data(c.seed).floats(c.rows * c.k)),
        w(Data(c.seed + 50).floats(c.n * c.k), c.n, c.k, dtype) {}

  Floats run(int64_t first, int64_t rows, int64_t shift = 0) const {
    Floats moved(static_cast<size_t>(shift));
    moved.insert(moved.end(), x.begin() + first * c.k, x.begin() + (first + rows) * c.k);
    const OnDevice<float> device_x(moved), out(rows * c.n, NAN);
    GemmArgs args;
    args.x = device_x.data() + shift;
    args.rows = rows;
    args.w = w.packed;
    args.out = out.data();
    args.out_stride = c.n;
    GPU_ROW(gemm)(args, gpu_device());
    return out.values();
  }
};

// As gemm() of the reference, with the bound of mma_dot on the chain.
std::vector<Bounded> expected_gemm(const Floats& x, const Floats& w, int64_t rows, int64_t n, int64_t k,
                                   const Floats& bias = {}, const Floats& old = {}) {
  return gemm_of(mma_dot, x, w, rows, n, k, bias, old);
}

}  // namespace

TEST_CASE("gpu gemm: values within the bound, same bits in every schedule and batch") {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    const Problem p(c);
    const Floats out = same_bits_in_schedules([&] { return p.run(0, c.rows); });
    check_bounded(out, expected_gemm(rounded(p.x, p.dtype), p.w.values, c.rows, c.n, c.k));
    for (int64_t shift : {1, 2}) CHECK(same_bits(p.run(0, c.rows, shift), out));
    for (int64_t batch : {1, 7, 16, 17, 64}) {
      if (batch > c.rows) break;
      for (int64_t first = 0; first + batch <= c.rows; first += std::max<int64_t>(1, (c.rows - batch) / 3)) {
        CAPTURE(batch);
        CAPTURE(first);
        CHECK(same_bits(p.run(first, batch).data(), out.data() + first * c.n, batch * c.n));
      }
    }
  }
}

TEST_CASE("gpu gemm: gathered rows, bias, old output and a wide stride") {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    const Problem p(c);
    Data data(c.seed + 1000);
    const int64_t x_rows = c.rows + 3, stride = c.n + 5;
    const Floats x = data.floats(x_rows * c.k), bias = data.floats(c.n), old = data.floats(c.rows * c.n);
    std::vector<int32_t> index;
    Floats gathered, wide_old(static_cast<size_t>(c.rows * stride), 7.0f);
    for (int64_t row = 0; row < c.rows; ++row) {
      index.push_back(static_cast<int32_t>(data.below(x_rows)));
      gathered.insert(gathered.end(), x.begin() + index.back() * c.k, x.begin() + (index.back() + 1) * c.k);
      std::copy_n(old.begin() + row * c.n, c.n, wide_old.begin() + row * stride);
    }
    const OnDevice<float> device_x(x), device_bias(bias);
    const Floats wide = same_bits_in_schedules([&] {
      const OnDevice<float> out(wide_old);
      GemmArgs args;
      args.x = device_x.data();
      args.x_index = index.data();
      args.rows = c.rows;
      args.w = p.w.packed;
      args.bias = device_bias.data();
      args.out = out.data();
      args.out_stride = stride;
      args.accumulate = true;
      GPU_ROW(gemm)(args, gpu_device());
      return out.values();
    });
    Floats out;
    int64_t touched = 0;
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t column = 0; column < stride; ++column) {
        const float value = wide[static_cast<size_t>(row * stride + column)];
        if (column < c.n) {
          out.push_back(value);
        } else {
          touched += value != 7.0f;
        }
      }
    }
    CHECK(touched == 0);
    check_bounded(out, expected_gemm(rounded(gathered, p.dtype), p.w.values, c.rows, c.n, c.k, bias, old));
  }
}

// k of 4,096 and 14,336; natively more tiles than a grid has blocks. 64 sampled elements; rows alone have the
// bits that they have among all.
TEST_CASE("gpu gemm: full width, several tiles a block, a ring that wraps many times") {
#ifdef EEP_TEST_CUDA
  const GemmCase cases[] = {{300, 14336, 4096, DType::kBF16, 16}, {300, 1024, 14336, DType::kF16, 17}};
#else
  const GemmCase cases[] = {{2, 70, 14336, DType::kBF16, 16}, {17, 10, 4096, DType::kF16, 17}};
#endif
  for (const GemmCase& c : cases) {
    CAPTURE(c.seed);
    const Problem p(c);
    const Floats whole = p.run(0, c.rows), x = rounded(p.x, p.dtype);
    Data data(c.seed + 900);
    Floats out;
    std::vector<Bounded> expected;
    for (int sample = 0; sample < 64; ++sample) {
      const int64_t row = data.below(c.rows), column = data.below(c.n);
      out.push_back(whole[static_cast<size_t>(row * c.n + column)]);
      expected.push_back(
          mma_dot(&x[static_cast<size_t>(row * c.k)], &p.w.values[static_cast<size_t>(column * c.k)], c.k));
    }
    check_bounded(out, expected);
    CHECK(same_bits(p.run(c.rows - 1, 1).data(), whole.data() + (c.rows - 1) * c.n, c.n));
  }
}

TEST_CASE("gpu gemm: nothing to do, and f32 weights are refused") {
  Problem p(GemmCase{1, 8, 8, DType::kBF16, 15});
  CHECK(p.run(0, 0).empty());
  p.w.packed.dtype = DType::kF32;
  CHECK(throws_with([&] { p.run(0, 1); }, "gemm: weights are F32 (expected BF16 or F16)"));
}
