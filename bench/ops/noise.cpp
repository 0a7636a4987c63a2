// noise: synthetic weights on any backend; on the CPU also what they are made of, Philox words, uniform and
// normal numbers, on one thread.
#include <fmt/format.h>

#include "bench/ops/ops.h"

namespace eep::bench {
namespace {

constexpr uint32_t kNumbers = 10000;

template <typename Number>
void numbers_case(Bench& bench, OpCase c, double bytes, Number number) {
  const DeviceBuffer out = bench.empty(sizeof(double));
  c.bytes = bytes * kNumbers;
  c.out = &out;
  c.run = [&] {
    double sum = 0;
    for (uint32_t i = 0; i < kNumbers; ++i) sum += number(philox({i, 1, 2, 3}, 42));
    *out.as<double>() = sum;
  };
  bench.run(c);
}

void weights_case(Bench& bench, OpCase c, int64_t count, DType dtype) {
  const DeviceBuffer out = bench.empty(count * static_cast<int64_t>(dtype_size(dtype)));
  NoiseArgs args;
  args.out = out.data();
  args.dtype = dtype;
  args.count = count;
  args.seed = 42;
  c.bytes = static_cast<double>(out.bytes());
  c.out = &out;
  c.run = [&] { bench.ops().noise(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_noise(Bench& bench) {
  for (DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const int64_t count = bench.extent(1 << 20, 1000);
    bench.attempt("C", "noise", fmt::format("{} {}", count, dtype_name(dtype)),
                  [&](OpCase c) { weights_case(bench, std::move(c), count, dtype); });
  }
  if (bench.device().kind != DeviceKind::kCpu) return;
  const auto add = [&](const char* what, double bytes, auto number) {
    bench.attempt("C", "noise", fmt::format("{} {}", kNumbers, what),
                  [&](OpCase c) { numbers_case(bench, std::move(c), bytes, number); });
  };
  add("blocks", 16, [](const auto& word) { return static_cast<double>(word[0] ^ word[3]); });
  add("uniform", 8, [](const auto& word) { return philox_uniform_double(word[0], word[1]); });
  add("normal", 8, [](const auto& word) { return philox_normal(word[0], word[1]); });
}

}  // namespace eep::bench
