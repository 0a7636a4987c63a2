// noise: Philox words, uniform and normal numbers.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/noise.h"

using namespace eep;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);
  constexpr uint32_t kCount = 10000;
  double sum = 0;
  const auto run = [&](const char* shape, double bytes, auto number) {
    bench::Case b;
    b.op = "noise";
    b.shape = fmt::format("{} {}", kCount, shape);
    b.bytes = bytes * kCount;
    b.run = [&] {
      for (uint32_t i = 0; i < kCount; ++i) sum += number(philox({i, 1, 2, 3}, 42));
    };
    bench.run(b);
  };
  run("blocks", 16, [](const auto& word) { return static_cast<double>(word[0] ^ word[3]); });
  run("uniform", 8, [](const auto& word) { return philox_uniform_double(word[0], word[1]); });
  run("normal", 8, [](const auto& word) { return philox_normal(word[0], word[1]); });
  if (sum == 1.5) fmt::print("\n");  // keeps the sums
  return bench.finish();
}
