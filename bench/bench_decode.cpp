// decode_rows: matrices in 8 bits to plain values, on one thread. Bytes count what is stored and what is written;
// the shapes are experts of released FP8 checkpoints, in blocks of 128 x 128, and one in small blocks.
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
  return bench.finish();
}
