#include <chrono>

#include "kernels/common/timer.h"

namespace eep {

double seconds_cpu(const std::function<void()>& work, const Device&) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace eep
