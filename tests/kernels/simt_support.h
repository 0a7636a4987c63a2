// For the tests of the host executor itself: a launch without an op, and cases that run under every schedule.
#pragma once

#include "kernels/gpu/gpu.h"
#include "kernels/gpu/ptx.h"
#include "tests/kernels/gpu_support.h"

namespace eep::test {

struct Grid {
  dim3 blocks, threads;
  size_t shared_bytes = 0;
};

template <typename... P, typename... A>
void run(void (*kernel)(P...), const Grid& grid, const A&... args) {
  simt::launch(kernel, grid.blocks, grid.threads, grid.shared_bytes, args...);
}

// What a missing barrier does to a result can be seen only where ThreadSanitizer does not stop the program
// first.
#if defined(__SANITIZE_THREAD__) || SIMT_HAS(thread_sanitizer)
inline constexpr bool kRacesStop = true;
#else
inline constexpr bool kRacesStop = false;
#endif

inline void under_every_schedule(void (*body)()) {
  for (const simt::Schedule& schedule : simt::kSchedules) {
    simt::schedule = schedule;
    const int order = static_cast<int>(schedule.order);
    CAPTURE(order);
    body();
  }
  simt::schedule = simt::kSchedules[0];
}

}  // namespace eep::test

#define SIMT_CASE_BODY(body, name)                           \
  static void body();                                        \
  TEST_CASE(name) { eep::test::under_every_schedule(body); } \
  static void body()
#define SIMT_CASE_LINE(line, name) SIMT_CASE_BODY(simt_case_##line, name)
#define SIMT_CASE_AT(line, name) SIMT_CASE_LINE(line, name)
#define SIMT_CASE(name) SIMT_CASE_AT(__LINE__, name)
