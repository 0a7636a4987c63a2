// What the microbenchmarks share: peaks of this machine, sampling, and the line that is printed.
//
//   op shape | median us (min, noise) | GB/s (% of copy) | GFLOP/s (% of FMA peak) | x baseline
//
// A case declares its flops and the bytes that it must move at least. A sample is one call with a cold L2;
// with --hot it is many calls in a row. On a machine that other jobs share the clock rate and the caches
// change by the second, so each sample of a case is taken between samples of the peak and of the baseline,
// and shares and ratios are the medians of the ratios within such a round.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace eep::bench {

struct Case {
  std::string op;
  std::string shape;
  double flops = 0;  // 0: not stated
  double bytes = 0;  // read and written at least once
  int threads = 1;
  std::function<void()> run;
  std::function<void()> baseline;  // optional
  std::string baseline_name;
};

// Command line:
//   [--filter TEXT] [--samples N] [--seconds S] [--threads N] [--hot] [--csv FILE] [--compare FILE]
// Compare reads a CSV of an earlier run: a case slower by more than the noise of both prints FAIL, and
// the program ends with 1.
class Bench {
 public:
  Bench(int argc, char** argv);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  int threads() const { return threads_; }
  void run(const Case& c);
  int finish();  // prints geometric means; the exit status

 private:
  struct Samples;
  Samples sample(const Case& c);
  void compare(const std::string& name, double median, double noise);

  std::string filter_, csv_, compare_;
  int minimum_samples_ = 21;
  double seconds_ = 0.5;  // a case at least
  int threads_ = 1;
  bool hot_ = false;
  bool failed_ = false;
  std::vector<std::string> csv_lines_, earlier_;
  std::vector<double> ratios_;
  std::vector<float> evict_;
  double copy_rate_ = 0;  // bytes read + written a second
};

// Seconds that the calling thread has had a core.
double thread_seconds();

// Seconds for `iterations` rounds of independent fused multiply-adds, and the flops of one round.
double fma_seconds(int iterations);
double fma_flops();

}  // namespace eep::bench
