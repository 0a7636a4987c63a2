// decode_rows: matrices in 8 and 4 bits to plain values, on one thread. Bytes count what is stored and what
// is written; the shapes are experts of released checkpoints, FP8 in blocks of 128 x 128 and one in small
// blocks, MXFP4 by rows of every second one (gate and up) and by all.
//
//   bench_decode [--filter TEXT]... [--samples N] [--seconds S] [--threads N] [--cpu-target NAME] [--hot]
//                [--csv FILE] [--markdown FILE] [--compare FILE] [--list]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <vector>

#include "bench/command_line.h"
#include "bench/harness.h"
#include "engine/coded_matrix.h"
#include "kernels/common/error.h"

namespace eep::bench {
namespace {

// Codes of any value but those that `mask` excludes.
std::vector<uint8_t> codes_of(int64_t count, uint32_t mask) {
  std::vector<uint8_t> codes(static_cast<size_t>(count));
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 2654435761u >> 24 & mask);
  return codes;
}

void decode_case(Bench& bench, OpCase c, const RawMatrix& matrix, double bytes_of_value) {
  const DeviceBuffer values = bench.empty(2 * matrix.n * matrix.k);
  c.bytes = bytes_of_value * static_cast<double>(matrix.n * matrix.k);
  c.out = &values;
  c.run = [&] { decode_rows(matrix, 0, matrix.n, values.as<uint16_t>()); };
  bench.run(c);
}

void fp8_case(Bench& bench, OpCase c, int64_t n, int64_t k, int64_t block) {
  const int64_t across = (k + block - 1) / block, along = (n + block - 1) / block;
  const std::vector<uint8_t> codes = codes_of(n * k, 0x7e);
  const std::vector<float> scales(static_cast<size_t>(across * along), 0.01f);
  RawMatrix matrix{codes.data(), DType::kBF16, n, k, k, 1};
  matrix.scales = {scales.data(), DType::kF32, Code::kNone, block, block, across};
  decode_case(bench, std::move(c), matrix, 3.0);
}

// step: rows from one to the next, as they are stored.
void mxfp4_case(Bench& bench, OpCase c, int64_t n, int64_t k, int64_t step) {
  const int64_t blocks = k / kMxfp4Block;
  const std::vector<uint8_t> codes = codes_of(step * n * k / 2, 0xff);
  const std::vector<uint8_t> scales(static_cast<size_t>(step * n * blocks), 120);
  RawMatrix matrix{codes.data(), DType::kBF16, n, k, step * k, 1};
  matrix.scales.data = scales.data();
  matrix.scales.code = Code::kE8M0;
  matrix.scales.block_columns = kMxfp4Block;
  matrix.scales.row_stride = step * blocks;
  matrix.scales.numbers = Code::kE2M1;
  decode_case(bench, std::move(c), matrix, 2.0 + 0.5 + 1.0 / static_cast<double>(kMxfp4Block));
}

void all_cases(Bench& bench) {
  struct Shape {
    const char* name;
    int64_t n, k, block_or_step;
  };
  for (const Shape& shape :
       {Shape{"Qwen3-30B-A3B gate", 768, 2048, 128}, Shape{"GLM-4.5-Air down", 4096, 1408, 128},
        Shape{"blocks of 16", 768, 2048, 16}}) {
    bench.attempt("D", "decode", fmt::format("{} {}x{}", shape.name, shape.n, shape.k),
                  [&](OpCase c) { fp8_case(bench, std::move(c), shape.n, shape.k, shape.block_or_step); });
  }
  for (const Shape& shape : {Shape{"gpt-oss gate", 2880, 2880, 2}, Shape{"gpt-oss down", 2880, 2880, 1}}) {
    bench.attempt("D", "decode", fmt::format("{} {}x{} MXFP4", shape.name, shape.n, shape.k),
                  [&](OpCase c) { mxfp4_case(bench, std::move(c), shape.n, shape.k, shape.block_or_step); });
  }
}

}  // namespace
}  // namespace eep::bench

int main(int argc, char** argv) {
  eep::bench::BenchOptions options;
  CLI::App app{"matrices in 8 and 4 bits to plain values, on the CPU", "bench_decode"};
  eep::bench::add_options(app, options);
  if (const auto status = eep::bench::parsed(app, argc, argv)) return *status;
  try {
    eep::bench::Bench bench(options);
    bench.run_filters([&bench] { eep::bench::all_cases(bench); });
    return bench.finish();
  } catch (const eep::Error& error) {
    std::cerr << "bench_decode: " << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
