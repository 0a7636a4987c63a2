#include "bench/sampling.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>

#include "bench/fma_peak.h"

namespace eep::bench {
namespace {

constexpr int kPeakRounds = 20000;
constexpr int kFewSamples = 5, kMostSamplesGpu = 20, kLeastSamplesHost = 21;
constexpr double kSecondsGpu = 0.3, kSecondsHost = 0.5;
constexpr double kHotSeconds = 5e-4;  // of a sample of calls in a row, about
// A case of the host whose samples take so many times the seconds of others ends with few of them.
constexpr double kPatience = 40;

double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Timing timing_of(const std::vector<double>& seconds) {
  Timing timing;
  timing.median = quantile(seconds, 0.5);
  timing.best = quantile(seconds, 0);
  timing.spread = (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / timing.median;
  return timing;
}

}  // namespace

double thread_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

Sampler::Sampler(const Backend& backend, const Sampling& sampling) : backend_(backend), sampling_(sampling) {
  const bool gpu = backend.device.kind == DeviceKind::kCuda;
  if (!sampling.once) {
    least_ = sampling.samples > 0 ? sampling.samples : gpu ? kFewSamples : kLeastSamplesHost;
    most_ = gpu ? std::max(least_, kMostSamplesGpu) : std::numeric_limits<int>::max();
    seconds_ = sampling.seconds >= 0 ? sampling.seconds : gpu ? kSecondsGpu : kSecondsHost;
    patience_ = sampling.samples > 0 ? std::numeric_limits<double>::max() : kPatience * seconds_;
  }
  if (gpu)
    overwritten_ = DeviceBuffer(backend_, sampling.once ? 1 << 10 : 256 << 20);
  else
    walked_.assign(sampling.once ? 1 << 8 : 1 << 20, 1.0f);
}

Timing Sampler::time(const std::function<void()>& run, const std::function<void()>& baseline, double flops) {
  return backend_.device.kind == DeviceKind::kCuda ? time_gpu(run, baseline)
                                                   : time_host(run, baseline, flops);
}

Timing Sampler::time_gpu(const std::function<void()>& run, const std::function<void()>& baseline) {
  const auto samples = [&](const std::function<void()>& work) {
    std::vector<double> seconds;
    const int calls = calls_for(work);
    repeat([&] { seconds.push_back(sample(work, calls)); });
    return seconds;
  };
  Timing timing = timing_of(samples(run));
  if (baseline) timing.times_baseline = quantile(samples(baseline), 0.5) / timing.median;
  return timing;
}

Timing Sampler::time_host(const std::function<void()>& run, const std::function<void()>& baseline,
                          double flops) {
  const bool peak = backend_.device.kind == DeviceKind::kCpu && flops > 0;
  const int calls = calls_for(run), baseline_calls = baseline ? calls_for(baseline) : 0;
  std::vector<double> seconds, shares, ratios;
  repeat([&] {
    const double before = fma_seconds(kPeakRounds);
    seconds.push_back(sample(run, calls));
    const double rate = 2 * kPeakRounds * fma_flops() / (before + fma_seconds(kPeakRounds));
    shares.push_back(flops / seconds.back() / rate / backend_.device.threads);
    if (baseline) ratios.push_back(sample(baseline, baseline_calls) / seconds.back());
  });
  Timing timing = timing_of(seconds);
  if (peak) timing.share_of_peak = quantile(shares, 0.5);
  if (baseline) timing.times_baseline = quantile(ratios, 0.5);
  return timing;
}

// Until there are samples enough.
void Sampler::repeat(const std::function<void()>& round) const {
  const double begin = clock_seconds();
  for (int samples = 1;; ++samples) {
    round();
    const double elapsed = clock_seconds() - begin;
    if (samples >= most_ || (samples >= least_ && elapsed >= seconds_) ||
        (samples >= kFewSamples && elapsed >= patience_))
      return;
  }
}

int Sampler::calls_for(const std::function<void()>& run) const {
  return sampling_.hot ? std::max(1, static_cast<int>(kHotSeconds / (seconds_of(run, 1) + 1e-9))) : 1;
}

// Of one call, the mean of `calls`.
double Sampler::seconds_of(const std::function<void()>& run, int calls) const {
  const auto work = [&] {
    for (int i = 0; i < calls; ++i) run();
  };
  if (backend_.device.kind == DeviceKind::kCuda) return backend_.ops->seconds(work, backend_.device) / calls;
  const auto now = backend_.device.threads == 1 ? thread_seconds : clock_seconds;
  const double begin = now();
  work();
  return (now() - begin) / calls;
}

double Sampler::sample(const std::function<void()>& run, int calls) {
  if (!sampling_.hot) {
    if (overwritten_.data() != nullptr)
      backend_.ops->clear(overwritten_.data(), overwritten_.bytes(), backend_.device);
    float sum = 0;
    for (float value : walked_) sum += value;
    const volatile float kept = sum;  // keeps the walk
    (void)kept;
  }
  return seconds_of(run, calls);
}

}  // namespace eep::bench
