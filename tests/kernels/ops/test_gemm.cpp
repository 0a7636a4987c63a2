// gemm: values within the bound, bits that depend on nothing but the row and the column; packing on the CPU.
// On a GPU by mma.sync, in few-rows and wide tiles.
#include "tests/kernels/ops/gemm_problem.h"

using namespace eep;
using namespace eep::test;

EVERY_ROW("gemm: values within the bound, same bits everywhere and in every batch") { check_gemm<Row>(); }

EVERY_ROW("gemm: gathered rows, bias, old output and a wide stride") { check_gathered_gemm<Row>(); }

EVERY_ROW("gemm: full width, several tiles a block, a ring that wraps many times") {
  check_full_width_gemm<Row>();
}

EVERY_ROW("gemm: nothing to do") {
  const GemmProblem<Row> p(GemmCase{1, 8, 8, DType::kBF16, 15});
  CHECK(p.run(0, 0).empty());
}

TEST_CASE("gpu gemm: f32 weights are refused") {
  GemmProblem<Gpu> p(GemmCase{1, 8, 8, DType::kBF16, 15});
  p.w.packed.dtype = DType::kF32;
  CHECK(throws_with([&] { p.run(0, 1); }, "gemm: weights are F32 (expected BF16 or F16)"));
}

TEST_CASE("gemm: each output is one chain of fma in ascending k") {
  const int64_t rows = 20, n = 37, k = 600;
  const GemmProblem<Cpu> p(GemmCase{rows, n, k, DType::kBF16, 5});
  const Floats out = p.run(0, rows);
  Floats chain;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      float sum = 0;
      for (int64_t i = 0; i < k; ++i) {
        sum = std::fma(p.x[static_cast<size_t>(row * k + i)], p.w.values[static_cast<size_t>(column * k + i)],
                       sum);
      }
      chain.push_back(sum);
    }
  }
  CHECK(same_bits(out, chain));
}

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
