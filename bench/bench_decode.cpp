// decode_rows: matrices in 8 and 4 bits to plain values, on one thread. Bytes count what is stored and what
// is written; the shapes are experts of released checkpoints, FP8 in blocks of 128 x 128 and one in small
// blocks, MXFP4 by rows of every second one (gate and up) and by all.
#include <fmt/format.h>

#include <vector>

#include "bench/bench.h"
#include "engine/coded_matrix.h"

int main(int argc, char** argv) {
  eep::bench::Bench bench(argc, argv);
  struct Shape {
    const char* name;
    int64_t n, k, block;
  };
  for (const Shape& shape :
       {Shape{"Qwen3-30B-A3B gate", 768, 2048, 128}, Shape{"GLM-4.5-Air down", 4096, 1408, 128},
        Shape{"blocks of 16", 768, 2048, 16}}) {
    const int64_t across = (shape.k + shape.block - 1) / shape.block,
                  along = (shape.n + shape.block - 1) / shape.block;
    std::vector<uint8_t> codes(static_cast<size_t>(shape.n * shape.k));
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 2654435761u >> 24 & 0x7e);
    const std::vector<float> scales(static_cast<size_t>(across * along), 0.01f);
    std::vector<uint16_t> values(codes.size());
    eep::RawMatrix matrix{codes.data(), eep::DType::kBF16, shape.n, shape.k, shape.k, 1};
    matrix.scales = {scales.data(), eep::DType::kF32, eep::Code::kNone, shape.block, shape.block, across};
    eep::bench::Case c;
    c.op = "decode";
    c.shape = fmt::format("{} {}x{}", shape.name, shape.n, shape.k);
    c.bytes = 3.0 * static_cast<double>(codes.size());
    c.run = [&] { eep::decode_rows(matrix, 0, shape.n, values.data()); };
    bench.run(c);
  }
  struct Mxfp4Shape {
    const char* name;
    int64_t n, k, step;  // step: rows from one to the next, as they are stored
  };
  for (const Mxfp4Shape& shape :
       {Mxfp4Shape{"gpt-oss gate", 2880, 2880, 2}, {"gpt-oss down", 2880, 2880, 1}}) {
    const int64_t blocks = shape.k / eep::kMxfp4Block;
    std::vector<uint8_t> codes(static_cast<size_t>(shape.step * shape.n * shape.k / 2));
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
    const std::vector<uint8_t> scales(static_cast<size_t>(shape.step * shape.n * blocks), 120);
    std::vector<uint16_t> values(static_cast<size_t>(shape.n * shape.k));
    eep::RawMatrix matrix{codes.data(), eep::DType::kBF16, shape.n, shape.k, shape.step * shape.k, 1};
    matrix.scales.data = scales.data();
    matrix.scales.code = eep::Code::kE8M0;
    matrix.scales.block_columns = eep::kMxfp4Block;
    matrix.scales.row_stride = shape.step * blocks;
    matrix.scales.numbers = eep::Code::kE2M1;
    eep::bench::Case c;
    c.op = "decode";
    c.shape = fmt::format("{} {}x{} MXFP4", shape.name, shape.n, shape.k);
    c.bytes = static_cast<double>(values.size()) * (2.0 + 0.5 + 1.0 / static_cast<double>(eep::kMxfp4Block));
    c.run = [&, matrix] { eep::decode_rows(matrix, 0, shape.n, values.data()); };
    bench.run(c);
  }
  return bench.finish();
}
