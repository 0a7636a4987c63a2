// Dense products as the rows of the op table take them, and what each must show: values within double
// precision's bounds, bits that depend on nothing but the row of x and the row of w.
#pragma once

#include "tests/kernels/ops/op_rows.h"

namespace eep::test {

template <class Row>
struct GemmProblem {
  GemmCase c;
  DType dtype;
  Floats x;
  Matrix<Row> w;

  explicit GemmProblem(const GemmCase& case_)
      : c(case_),
        dtype(Row::dtype(c.dtype)),
        x(Data(c.seed).floats(c.rows * c.k)),
        w(Data(c.seed + 50).floats(c.n * c.k), c.n, c.k, dtype) {}

  Floats run(int64_t first, int64_t rows, int64_t shift = 0, const Device& device = Row::device()) const {
    const Input<Row, float> in(x, first * c.k, rows * c.k, shift);
    const Rounded<Row> x16(x, first, rows, c.k, dtype);
    const Output<Row, float> out(rows * c.n, NAN);
    GemmArgs args;
    args.x = in.data();
    args.x16 = x16.data();
    args.rows = rows;
    args.w = w.packed;
    args.out = out.data();
    args.out_stride = c.n;
    call(Row(), args, device);
    return out.values();
  }
};

template <class Row>
std::vector<Bounded> expected_gemm(const Floats& x, const Floats& w, int64_t rows, int64_t n, int64_t k,
                                   const Floats& bias = {}, const Floats& old = {}) {
  return gemm_of(Row::dot, x, w, rows, n, k, bias, old);
}

template <class Row>
void check_gemm() {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    const GemmProblem<Row> p(c);
    const Floats out = Row::same_bits([&](const Device& device) { return p.run(0, c.rows, 0, device); });
    check_bounded(out, expected_gemm<Row>(Row::as_read(p.x, p.dtype), p.w.values, c.rows, c.n, c.k));
    for (int64_t shift : {1, 2}) CHECK(same_bits(p.run(0, c.rows, shift), out));
    Row::same_in_batches(out, c.rows, c.n, [&](int64_t first, int64_t rows) { return p.run(first, rows); });
  }
}

// Gathered rows, bias, old output and a wide stride.
template <class Row>
void check_gathered_gemm() {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    const GemmProblem<Row> p(c);
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
    const Input<Row, float> in(x), bias_in(bias);
    const Rounded<Row> x16(x, 0, x_rows, c.k, p.dtype);
    const Floats wide = Row::same_bits([&](const Device& device) {
      const Output<Row, float> out(wide_old);
      GemmArgs args;
      args.x = in.data();
      args.x16 = x16.data();
      args.x_index = index.data();
      args.rows = c.rows;
      args.w = p.w.packed;
      args.bias = bias_in.data();
      args.out = out.data();
      args.out_stride = stride;
      args.accumulate = true;
      call(Row(), args, device);
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
    check_bounded(
        out, expected_gemm<Row>(Row::as_read(gathered, p.dtype), p.w.values, c.rows, c.n, c.k, bias, old));
  }
}

// k of 4,096 and 14,336; natively more tiles than a grid has blocks. 64 sampled elements; rows alone have the
// bits that they have among all.
template <class Row>
void check_full_width_gemm() {
#ifdef EEP_TEST_CUDA
  const GemmCase cases[] = {{300, 14336, 4096, DType::kBF16, 16}, {300, 1024, 14336, DType::kF16, 17}};
#else
  const GemmCase cases[] = {{2, 70, 14336, DType::kBF16, 16}, {17, 10, 4096, DType::kF16, 17}};
#endif
  for (const GemmCase& c : cases) {
    CAPTURE(c.seed);
    const GemmProblem<Row> p(c);
    const Floats whole = p.run(0, c.rows), x = Row::as_read(p.x, p.dtype);
    Data data(c.seed + 900);
    Floats out;
    std::vector<Bounded> expected;
    for (int sample = 0; sample < 64; ++sample) {
      const int64_t row = data.below(c.rows), column = data.below(c.n);
      out.push_back(whole[static_cast<size_t>(row * c.n + column)]);
      expected.push_back(
          Row::dot(&x[static_cast<size_t>(row * c.k)], &p.w.values[static_cast<size_t>(column * c.k)], c.k));
    }
    check_bounded(out, expected);
    CHECK(same_bits(p.run(c.rows - 1, 1).data(), whole.data() + (c.rows - 1) * c.n, c.n));
  }
}

}  // namespace eep::test
