// bench: sampling and printing (bench.h).
#include "bench/bench.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

#include "kernels/cpu/cpu_target.h"

namespace eep::bench {

double thread_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}
double median(const std::vector<double>& values) { return quantile(values, 0.5); }

// With one thread, the time it had a core, so that being interrupted by another job does not count.
double time_calls(const std::function<void()>& run, int calls, int threads) {
  const auto now = threads == 1 ? thread_seconds : seconds_now;
  const double begin = now();
  for (int i = 0; i < calls; ++i) run();
  return (now() - begin) / calls;
}

// Copies 32 MiB back and forth; bytes read and written a second, the best of some.
double measure_copy() {
  std::vector<char> from(32 << 20, 1), to(32 << 20, 2);
  double best = 1e9;
  for (int i = 0; i < 10; ++i) {
    const double begin = seconds_now();
    std::memcpy(to.data(), from.data(), from.size());
    best = std::min(best, seconds_now() - begin);
    from.swap(to);
  }
  return 2.0 * static_cast<double>(from.size()) / best;
}

[[noreturn]] void usage(const std::string& what) {
  fmt::print(
      stderr,
      "{}\nusage: [--filter TEXT] [--samples N] [--seconds S] [--threads N] [--cpu-target NAME] [--hot] "
      "[--csv FILE] [--compare FILE]\n",
      what);
  std::exit(2);
}

}  // namespace

struct Bench::Samples {
  std::vector<double> seconds, share_of_peak, times_baseline;
};

Bench::Bench(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--hot") {
      hot_ = true;
      continue;
    }
    if (i + 1 == argc) usage("unknown option or missing value: " + option);
    const std::string value = argv[++i];
    if (option == "--filter") {
      filter_ = value;
    } else if (option == "--samples") {
      minimum_samples_ = std::max(1, std::atoi(value.c_str()));
    } else if (option == "--seconds") {
      seconds_ = std::atof(value.c_str());
    } else if (option == "--threads") {
      threads_ = std::max(1, std::atoi(value.c_str()));
    } else if (option == "--cpu-target") {
      const auto targets = cpu_targets();
      if (std::find(targets.begin(), targets.end(), value) == targets.end())
        usage("no such target: " + value);
      set_cpu_target(value);
    } else if (option == "--csv") {
      csv_ = value;
    } else if (option == "--compare") {
      compare_ = value;
    } else {
      usage("unknown option: " + option);
    }
  }
  if (!compare_.empty()) {
    std::ifstream file(compare_);
    if (!file) usage("cannot read " + compare_);
    for (std::string line; std::getline(file, line);) earlier_.push_back(line);
  }
  evict_.assign(1 << 20, 1.0f);  // 4 MiB, more than an L2
  copy_rate_ = measure_copy();
  std::vector<double> peaks;
  for (int i = 0; i < 50; ++i) peaks.push_back(fma_flops() * 20000 / fma_seconds(20000));
  fmt::print("target {}, one core: {:.1f} GFLOP/s fused multiply-add (median), copy {:.1f} GB/s\n",
             cpu_target(), median(peaks) / 1e9, copy_rate_ / 1e9);
}

Bench::~Bench() = default;

Bench::Samples Bench::sample(const Case& c) {
  Samples samples;
  const auto calls_for = [&](const std::function<void()>& run) {
    const double once = time_calls(run, 1, c.threads);
    return hot_ ? std::max(1, static_cast<int>(5e-4 / (once + 1e-9))) : 1;
  };
  const auto take = [&](const std::function<void()>& run, int calls) {
    float sum = 0;
    if (!hot_) {
      for (float value : evict_) sum += value;
    }
    if (sum == 12345.0f) fmt::print("\n");  // keeps the walk
    return time_calls(run, calls, c.threads);
  };
  const int calls = calls_for(c.run);
  const int baseline_calls = c.baseline ? calls_for(c.baseline) : 0;
  constexpr int kPeakRounds = 20000;
  const double begin = seconds_now();
  while (static_cast<int>(samples.seconds.size()) < minimum_samples_ || seconds_now() - begin < seconds_) {
    const double before = fma_seconds(kPeakRounds);
    const double seconds = take(c.run, calls);
    const double after = fma_seconds(kPeakRounds);
    samples.seconds.push_back(seconds);
    const double peak = fma_flops() * kPeakRounds * 2 / (before + after);
    samples.share_of_peak.push_back(c.flops / seconds / peak / c.threads);
    if (c.baseline) samples.times_baseline.push_back(take(c.baseline, baseline_calls) / seconds);
  }
  return samples;
}

void Bench::run(const Case& c) {
  const std::string name = c.op + " " + c.shape;
  if (name.find(filter_) == std::string::npos) return;
  const Samples samples = sample(c);
  const double typical = median(samples.seconds), best = quantile(samples.seconds, 0);
  const double noise = (quantile(samples.seconds, 0.75) - quantile(samples.seconds, 0.25)) / typical;
  std::string line = fmt::format("{:<44} | {:>9.1f} us (min {:.1f}, noise {:.0f}%)", name, typical * 1e6,
                                 best * 1e6, noise * 100);
  line += fmt::format(" | {:>5.1f} GB/s ({:.0f}%)", c.bytes / typical / 1e9,
                      c.bytes / typical / copy_rate_ * 100);
  if (c.flops > 0) {
    line += fmt::format(" | {:>5.1f} GFLOP/s ({:.0f}%)", c.flops / typical / 1e9,
                        median(samples.share_of_peak) * 100);
  }
  if (c.baseline) {
    const double ratio = median(samples.times_baseline);
    ratios_.push_back(ratio);
    line += fmt::format(" | {:.2f}x {}", ratio, c.baseline_name);
  }
  fmt::print("{}\n", line);
  std::fflush(stdout);
  csv_lines_.push_back(fmt::format("{},{},{:.3f},{:.3f},{:.4f},{:.4f},{:.4f},{:.4f}", c.op, c.shape,
                                   typical * 1e6, best * 1e6, noise, c.bytes / typical / 1e9,
                                   c.flops > 0 ? median(samples.share_of_peak) : 0.0,
                                   c.baseline ? median(samples.times_baseline) : 0.0));
  compare(c.op + "," + c.shape + ",", typical * 1e6, noise);
}

void Bench::compare(const std::string& name, double typical, double noise) {
  for (const std::string& line : earlier_) {
    if (line.rfind(name, 0) != 0) continue;
    std::istringstream fields(line.substr(name.size()));
    double before = 0, best = 0, noise_before = 0;
    char comma = 0;
    fields >> before >> comma >> best >> comma >> noise_before;
    const bool slower = typical > before * (1 + noise + noise_before);
    failed_ = failed_ || slower;
    fmt::print("  {} {:.1f} us before\n", slower ? "FAIL" : "PASS", before);
  }
}

int Bench::finish() {
  if (!ratios_.empty()) {
    double sum = 0;
    for (double ratio : ratios_) sum += std::log(ratio);
    fmt::print("geometric mean {:.2f}x\n", std::exp(sum / static_cast<double>(ratios_.size())));
  }
  if (!csv_.empty()) {
    std::ofstream file(csv_);
    file << "op,shape,median_us,min_us,noise,gb_per_s,share_of_fma_peak,times_baseline\n";
    for (const std::string& line : csv_lines_) file << line << "\n";
  }
  return failed_ ? 1 : 0;
}

}  // namespace eep::bench
