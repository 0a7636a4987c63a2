// gemm: packing, values within the bound, and bits that depend on nothing but the row and the column.
#include <algorithm>

#include "kernels/gemm.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

Floats run_gemm(const Floats& x, const Weights& w, int64_t first, int64_t rows, const Device& device) {
  Floats out(static_cast<size_t>(rows * w.packed.n));
  GemmArgs args;
  args.x = x.data() + first * w.packed.k;
  args.rows = rows;
  args.w = w.packed;
  args.out = out.data();
  args.out_stride = w.packed.n;
  gemm_cpu(args, device);
  return out;
}

}  // namespace

TEST_CASE("gemm: packing is a permutation with zero padding") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t n : {1, 15, 16, 17, 31, 48}) {
      for (int64_t k : {1, 7, 33}) {
        CAPTURE(n);
        CAPTURE(k);
        const size_t size = dtype_size(dtype);
        Data data(100 + static_cast<uint64_t>(n * 64 + k));
        const Typed source(data.floats(n * k), dtype);
        std::vector<char> misaligned(source.bytes.size() + 1);
        std::memcpy(misaligned.data() + 1, source.bytes.data(), source.bytes.size());
        Buffer buffer(gemm_packed_bytes(n, k, dtype));
        std::memset(buffer.data(), 0xff, buffer.bytes());
        const PackedMatrix packed = gemm_pack_cpu(misaligned.data() + 1, n, k, k, 1, dtype, buffer.data());
        std::vector<char> back(source.bytes.size());
        gemm_unpack_cpu(packed, back.data());
        CHECK(back == source.bytes);

        size_t nonzero_padding = 0;
        const char* bytes = buffer.as<char>();
        for (int64_t column = 0; column < k; ++column) {
          for (int64_t lane = n % kPanel; n % kPanel != 0 && lane < kPanel; ++lane) {
            const int64_t element = n / kPanel * kPanel * k + column * kPanel + lane;
            for (size_t b = 0; b < size; ++b)
              nonzero_padding += bytes[static_cast<size_t>(element) * size + b] != 0;
          }
        }
        CHECK(nonzero_padding == 0);

        // A transposed source [k, n] packs to the same bytes.
        std::vector<char> transposed(source.bytes.size());
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < k; ++j) {
            std::memcpy(&transposed[static_cast<size_t>(j * n + i) * size],
                        &source.bytes[static_cast<size_t>(i * k + j) * size], size);
          }
        }
        Buffer again(gemm_packed_bytes(n, k, dtype));
        gemm_pack_cpu(transposed.data(), n, k, 1, n, dtype, again.data());
        CHECK(std::memcmp(again.data(), buffer.data(), packed.bytes()) == 0);
      }
    }
  }
}

TEST_CASE("gemm: values within the bound, same bits on every target, thread count and batch") {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.k);
    const Weights w(data.floats(c.n * c.k), c.n, c.k, c.dtype);
    const Floats out =
        same_bits_everywhere([&](const Device& device) { return run_gemm(x, w, 0, c.rows, device); });
    check_bounded(out, gemm(x, w.values, c.rows, c.n, c.k));
    same_bits_in_batches(out, c.rows, c.n,
                         [&](int64_t first, int64_t count) { return run_gemm(x, w, first, count, cpu(1)); });
  }
}

TEST_CASE("gemm: each output is one chain of fma in ascending k") {
  Data data(5);
  const int64_t rows = 20, n = 37, k = 600;
  const Floats x = data.floats(rows * k);
  const Weights w(data.floats(n * k), n, k, DType::kBF16);
  const Floats out = run_gemm(x, w, 0, rows, cpu(1));
  Floats chain;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      float sum = 0;
      for (int64_t i = 0; i < k; ++i) {
        sum =
            std::fma(x[static_cast<size_t>(row * k + i)], w.values[static_cast<size_t>(column * k + i)], sum);
      }
      chain.push_back(sum);
    }
  }
  CHECK(same_bits(out, chain));
}

TEST_CASE("gemm: gathered rows, bias, old output and a wide stride") {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    Data data(c.seed + 1000);
    const int64_t x_rows = c.rows + 3, stride = c.n + 5;
    const Floats x = data.floats(x_rows * c.k), bias = data.floats(c.n), old = data.floats(c.rows * c.n);
    const Weights w(data.floats(c.n * c.k), c.n, c.k, c.dtype);
    std::vector<int32_t> index;
    Floats gathered;
    for (int64_t row = 0; row < c.rows; ++row) {
      index.push_back(static_cast<int32_t>(data.below(x_rows)));
      gathered.insert(gathered.end(), x.begin() + index.back() * c.k, x.begin() + (index.back() + 1) * c.k);
    }
    const Floats wide = same_bits_everywhere([&](const Device& device) {
      Floats out(static_cast<size_t>(c.rows * stride), 7.0f);
      for (int64_t row = 0; row < c.rows; ++row) {
        std::copy_n(old.begin() + row * c.n, c.n, out.begin() + row * stride);
      }
      GemmArgs args;
      args.x = x.data();
      args.x_index = index.data();
      args.rows = c.rows;
      args.w = w.packed;
      args.bias = bias.data();
      args.out = out.data();
      args.out_stride = stride;
      args.accumulate = true;
      gemm_cpu(args, device);
      return out;
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
    check_bounded(out, gemm(gathered, w.values, c.rows, c.n, c.k, bias, old));
  }
}

TEST_CASE("gemm: nothing to do") {
  const Weights w(Data(1).floats(8), 2, 4, DType::kF32);
  CHECK(run_gemm({}, w, 0, 0, cpu(2)).empty());
}
