#include "bench/ceilings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/fma_peak.h"
#include "bench/gpu/yardsticks.h"
#include "bench/harness.h"
#include "bench/sampling.h"
#ifdef EEP_CUDA_TWINS
#include "bench/gpu/cuda/ceilings.h"
#endif

namespace eep::bench {
namespace {

// On the CPU those of the thread, which other jobs do not count in.
double best_seconds(const Bench& bench, const std::function<void()>& work) {
  const auto once = [&] {
    if (bench.device().kind != DeviceKind::kCpu) return bench.ops().seconds(work, bench.device());
    const double begin = thread_seconds();
    work();
    return thread_seconds() - begin;
  };
  double seconds = 1e9;
  for (int i = 0; i < 5; ++i) seconds = std::min(seconds, once());
  return seconds;
}

// Of the median of some: the best of them would be that of a moment.
double fma_rate(bool small) {
  constexpr int kRounds = 20000;
  std::vector<double> rates;
  for (int i = 0; i < (small ? 1 : 50); ++i) rates.push_back(fma_flops() * kRounds / fma_seconds(kRounds));
  return quantile(rates, 0.5);
}

void measure_kernels([[maybe_unused]] Bench& bench, [[maybe_unused]] Ceilings& ceilings) {
#ifdef EEP_CUDA_TWINS
  if (bench.device().kind != DeviceKind::kCuda) return;
  constexpr int64_t kBuffer = 16 << 20;  // a third of an H100's L2
  const DeviceBuffer buffer = bench.random(kBuffer / 4, DType::kF32), sink = bench.empty(16);
  double work = 0;
  const auto rate = [&](const std::function<void()>& once) {
    once();
    return work == 0 ? 0 : work / best_seconds(bench, once);
  };
  ceilings.l2 = rate([&] { work = l2_read_cuda(buffer.data(), kBuffer, sink.data(), bench.device()); });
  ceilings.mma = rate([&] { work = mma_peak_cuda(sink.data(), bench.device()); });
  ceilings.wgmma = rate([&] { work = wgmma_peak_cuda(sink.data(), bench.device()); });
#endif
}

}  // namespace

Ceilings measure_ceilings(Bench& bench, bool small) {
  Ceilings ceilings;
  const Ops& ops = bench.ops();
  const Device& device = bench.device();
  const bool cpu = device.kind == DeviceKind::kCpu;
  const int64_t bytes = small ? 1 << 12 : cpu ? 32 << 20 : 512 << 20;
  const DeviceBuffer from = bench.random(bytes / 4, DType::kF32), to = bench.empty(bytes);
  ceilings.copy = 2.0 * static_cast<double>(bytes) / best_seconds(bench, [&] {
                    ops.copy(to.data(), from.data(), static_cast<size_t>(bytes), device);
                  });
  if (cpu) {
    ceilings.fma = fma_rate(small);
    return ceilings;
  }
  const std::vector<char> host(static_cast<size_t>(bytes), 1);
  ceilings.upload_pageable = static_cast<double>(bytes) / best_seconds(bench, [&] {
                               ops.upload(to.data(), host.data(), host.size(), device);
                             });
  ceilings.upload_pinned = pinned_upload_rate(to.data(), to.bytes(), device);
  measure_kernels(bench, ceilings);
  if (!cublas_here(device)) return ceilings;
  constexpr int64_t kSize = 8192;
  const DeviceBuffer x = bench.random(kSize * kSize, DType::kBF16),
                     w = bench.random(kSize * kSize, DType::kBF16);
  const DeviceBuffer out = bench.empty(kSize * kSize * 4);
  const auto product = [&] { cublas_product(x.data(), w.data(), out.data(), kSize, kSize, kSize, device); };
  product();  // its first call loads kernels
  ceilings.product = 2.0 * std::pow(static_cast<double>(kSize), 3) / best_seconds(bench, product);
  return ceilings;
}

std::string describe(const Ceilings& ceilings) {
  std::string text;
  for (const NamedCeiling& ceiling : kCeilings) {
    const double rate = ceilings.*ceiling.rate;
    if (rate <= 0) continue;
    text += text.empty() ? "" : ", ";
    const bool tera = rate >= 1e12;
    text += fmt::format("{} {:.3g} {}{}", ceiling.name, rate / (tera ? 1e12 : 1e9), tera ? "T" : "G",
                        ceiling.flops ? "FLOP/s" : "B/s");
  }
  return text;
}

}  // namespace eep::bench
