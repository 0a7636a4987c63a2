// Dense products as the kernels of gemm take them, and what every kernel of that contract must show: values
// within double precision's bounds, bits that depend on nothing but the row of x and the row of w.
#pragma once

#include <algorithm>

#include "kernels/common/error.h"
#include "kernels/gemm.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_matrices.h"

namespace eep::test {

using GemmOp = void (*)(const GemmArgs&, const Device&);

struct GemmProblem {
  GemmCase c;
  DType dtype;
  Floats x;
  DeviceWeights w;
  GemmOp op = GPU_ROW(gemm);

  explicit GemmProblem(const GemmCase& case_)
      : c(case_),
        dtype(dtype_on_gpu(c.dtype)),
        x(Data(c.seed).floats(c.rows * c.k)),
        w(Data(c.seed + 50).floats(c.n * c.k), c.n, c.k, dtype) {}

  Floats run(int64_t first, int64_t rows, int64_t shift = 0) const {
    Floats moved(static_cast<size_t>(shift));
    moved.insert(moved.end(), x.begin() + first * c.k, x.begin() + (first + rows) * c.k);
    const OnDevice<float> device_x(moved), out(rows * c.n, NAN);
    const OnDevice<uint16_t> x16(rows_16bit(Floats(moved.begin() + shift, moved.end()), rows, c.k, dtype));
    GemmArgs args;
    args.x16 = x16.data();
    args.x = device_x.data() + shift;
    args.rows = rows;
    args.w = w.packed;
    args.out = out.data();
    args.out_stride = c.n;
    op(args, gpu_device());
    return out.values();
  }
};

// As gemm() of the reference, with the bound of mma_dot on the chain.
inline std::vector<Bounded> expected_gemm(const Floats& x, const Floats& w, int64_t rows, int64_t n,
                                          int64_t k, const Floats& bias = {}, const Floats& old = {}) {
  return gemm_of(mma_dot, x, w, rows, n, k, bias, old);
}

// Values within the bound, the same bits in every schedule and batch.
inline void check_gemm(GemmOp op) {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    GemmProblem p(c);
    p.op = op;
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

// Gathered rows, bias, old output and a wide stride.
inline void check_gathered_gemm(GemmOp op) {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    GemmProblem p(c);
    p.op = op;
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
    const OnDevice<uint16_t> x16(rows_16bit(x, x_rows, c.k, p.dtype));
    const Floats wide = same_bits_in_schedules([&] {
      const OnDevice<float> out(wide_old);
      GemmArgs args;
      args.x = device_x.data();
      args.x16 = x16.data();
      args.x_index = index.data();
      args.rows = c.rows;
      args.w = p.w.packed;
      args.bias = device_bias.data();
      args.out = out.data();
      args.out_stride = stride;
      args.accumulate = true;
      op(args, gpu_device());
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
inline void check_full_width_gemm(GemmOp op) {
#ifdef EEP_TEST_CUDA
  const GemmCase cases[] = {{300, 14336, 4096, DType::kBF16, 16}, {300, 1024, 14336, DType::kF16, 17}};
#else
  const GemmCase cases[] = {{2, 70, 14336, DType::kBF16, 16}, {17, 10, 4096, DType::kF16, 17}};
#endif
  for (const GemmCase& c : cases) {
    CAPTURE(c.seed);
    GemmProblem p(c);
    p.op = op;
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

}  // namespace eep::test
