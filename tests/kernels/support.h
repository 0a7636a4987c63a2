// What the tests of the ops share: seeded data, packed weights, and the check that a result has the same bits
// on every instruction set and with any number of threads.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_target.h"
#include "tests/kernels/data.h"

namespace eep::test {

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
template <typename T>
bool same_bits(const T* a, const T* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(T)) == 0;
}

// run(device) -> vector. Runs it on every target with 1, 2 and 3 threads; all results must have the bits of
// the first, which is returned.
template <typename Run>
auto same_bits_everywhere(const Run& run) {
  const auto expected = run(cpu(1));
  for (const std::string& target : cpu_targets()) {
    set_cpu_target(target);
    for (int threads : {1, 2, 3}) {
      CAPTURE(target);
      CAPTURE(threads);
      CHECK(same_bits(run(cpu(threads)), expected));
    }
  }
  set_cpu_target("auto");
  return expected;
}

// run(first, count) -> that many rows of `width` values. Rows computed alone and in batches of 2, 7, 33 and
// 64 at every position of a stride must have the bits they have in `whole`.
template <typename T, typename Run>
void same_bits_in_batches(const std::vector<T>& whole, int64_t rows, int64_t width, const Run& run) {
  for (int64_t batch : {1, 2, 7, 33, 64}) {
    if (batch > rows) break;
    for (int64_t first = 0; first + batch <= rows; first += batch == 1 ? 1 : (batch + 1) / 2) {
      CAPTURE(batch);
      CAPTURE(first);
      const std::vector<T> part = run(first, batch);
      CHECK(same_bits(part.data(), whole.data() + first * width, batch * width));
    }
  }
}

// |actual - expected| <= bound for every element; reports the worst.
struct Bounded {
  double expected = 0;
  double bound = 0;
};
inline void check_bounded(const Floats& actual, const std::vector<Bounded>& reference) {
  REQUIRE(actual.size() == reference.size());
  size_t worst = 0, failures = 0;
  double worst_excess = -1;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - reference[i].expected);
    const bool good = error <= reference[i].bound;  // false for NaN
    failures += !good;
    const double excess = std::isnan(error) ? 1e300 : error / (reference[i].bound + 1e-300);
    if (excess > worst_excess) {
      worst_excess = excess;
      worst = i;
    }
  }
  if (failures > 0) {
    CAPTURE(worst);
    CAPTURE(actual[worst]);
    CAPTURE(reference[worst].expected);
    CAPTURE(reference[worst].bound);
    CHECK(failures == 0);
  }
}

}  // namespace eep::test
