// How calls are timed.
//
// On a GPU a sample is the device's own time (events) for one call after the L2 cache was overwritten. On the
// host it is one call with a cold L2: by the time that the thread had a core if there is one thread, so that
// being interrupted by another job does not count, by the clock if there are more. With `hot` a sample is the
// mean of many calls in a row, with nothing between them.
//
// On a machine that other jobs share the clock rate and the caches change by the second, so on the CPU each
// sample of a case is taken between samples of the peak of fused multiply-adds and of the baseline, and share
// and ratio are the medians of the ratios within such a round.
#pragma once

#include <functional>
#include <vector>

#include "engine/device_buffer.h"

namespace eep::bench {

// Seconds that the calling thread has had a core.
double thread_seconds();

// The q-th part of the values is below it; 0.5: the median.
double quantile(std::vector<double> values, double q);

struct Sampling {
  int samples = 0;      // of a case at least; 0: 21 on the host, 5 on a GPU, which takes 20 at most
  double seconds = -1;  // of samples of a case at least; below 0: 0.5 on the host, 0.3 on a GPU
  bool hot = false;
  bool once = false;  // one sample: the code runs, times mean nothing
};

struct Timing {
  double median = 0, best = 0;  // seconds of a call
  double spread = 0;            // between the quartiles, of the median
  double share_of_peak = 0;     // of fused multiply-adds on as many cores as threads; 0: not measured
  double times_baseline = 0;    // the baseline's time over the call's; 0: there is none
};

class Sampler {
 public:
  Sampler(const Backend& backend, const Sampling& sampling);

  // run and baseline (or none) have been called before. flops: of one call of run, 0: not stated.
  Timing time(const std::function<void()>& run, const std::function<void()>& baseline, double flops);

 private:
  Timing time_gpu(const std::function<void()>& run, const std::function<void()>& baseline);
  Timing time_host(const std::function<void()>& run, const std::function<void()>& baseline, double flops);
  void repeat(const std::function<void()>& round) const;
  int calls_for(const std::function<void()>& run) const;
  double seconds_of(const std::function<void()>& run, int calls) const;
  double sample(const std::function<void()>& run, int calls);

  Backend backend_;
  Sampling sampling_;
  int least_ = 1, most_ = 1;
  double seconds_ = 0, patience_ = 0;
  DeviceBuffer overwritten_;   // more than a GPU's L2
  std::vector<float> walked_;  // more than a core's L2
};

}  // namespace eep::bench
