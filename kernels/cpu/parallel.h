// parallel_for: units 0 .. count-1, each done once by some thread. Units write disjoint results, so bits
// never depend on the number of threads.
#pragma once

#include <cstdint>
#ifdef EEP_PLAIN_THREADS
#include <atomic>
#include <thread>
#include <vector>
#endif

#include "kernels/common/device.h"

namespace eep {

template <typename Function>
void parallel_for(const Device& device, int64_t count, const Function& unit) {
#ifdef _OPENMP
  const int threads = static_cast<int>(count < device.threads ? count : device.threads);
  if (threads > 1) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < count; ++i) unit(i);
    return;
  }
#elif defined(EEP_PLAIN_THREADS)
  // For sanitizers: ThreadSanitizer cannot see into OpenMP runtimes. The same units on threads that it knows.
  const int64_t threads = count < device.threads ? count : device.threads;
  if (threads > 1) {
    std::atomic<int64_t> next = 0;
    std::vector<std::thread> workers;
    for (int64_t worker = 0; worker < threads; ++worker) {
      workers.emplace_back([&] {
        for (int64_t i = next++; i < count; i = next++) unit(i);
      });
    }
    for (std::thread& worker : workers) worker.join();
    return;
  }
#else
  (void)device;
#endif
  for (int64_t i = 0; i < count; ++i) unit(i);
}

// Rows [0, rows) in contiguous ranges of at least `grain` rows, a few for each thread: range(begin, end).
template <typename Function>
void parallel_rows(const Device& device, int64_t rows, int64_t grain, const Function& range) {
  const int64_t wanted = device.threads > 1 ? int64_t{device.threads} * 4 : 1;
  int64_t step = (rows + wanted - 1) / wanted;
  if (step < grain) step = grain;
  if (step < 1) step = 1;
  parallel_for(device, (rows + step - 1) / step, [&](int64_t unit) {
    const int64_t begin = unit * step;
    range(begin, begin + step < rows ? begin + step : rows);
  });
}

}  // namespace eep
