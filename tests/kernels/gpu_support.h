// What the tests of the GPU's kernels share: memory of the device, filled and read by copies, and the
// schedules of the host executor. Tests of the ops include this and name op functions alone; tests of the
// executor itself include kernels/gpu/gpu.h too.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "kernels/gpu/gpu_memory.h"
#include "kernels/simt/schedule.h"

// The row under test: tests_kernels runs the kernels on the host, tests_cuda, from the same sources, on a
// GPU.
#ifdef EEP_TEST_CUDA
#define GPU_ROW(op) eep::op##_cuda
#else
#define GPU_ROW(op) eep::op##_simt
#endif

namespace eep::test {

#ifdef EEP_TEST_CUDA
inline const Device& gpu_device() {
  static const Device device = open_cuda(0);
  return device;
}
#else
inline Device gpu_device() { return {}; }
#endif

// n elements in the device's memory; on the host executor that is the host's, which tests of the executor
// itself write through operator[].
template <typename T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : count_(values.size()) {
    data_ = static_cast<T*>(GPU_ROW(allocate)(allocated(count_ * sizeof(T)), gpu_device()));
    GPU_ROW(upload)(data_, values.data(), count_ * sizeof(T), gpu_device());
  }
  explicit OnDevice(int64_t n, T value = {}) : OnDevice(std::vector<T>(static_cast<size_t>(n), value)) {}
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { GPU_ROW(release)(data_, gpu_device()); }

  T* data() const { return data_; }
  int64_t size() const { return static_cast<int64_t>(count_); }
#ifdef EEP_TEST_CUDA
  T operator[](int64_t i) const { return values()[static_cast<size_t>(i)]; }
#else
  T& operator[](int64_t i) const { return data_[i]; }
#endif
  std::vector<T> values() const {
    std::vector<T> host(count_);
    GPU_ROW(download)(host.data(), data_, count_ * sizeof(T), gpu_device());
    return host;
  }

 private:
  // The machine copies 16 bytes asynchronously also where fewer of them count, so device memory ends at a
  // multiple of 16 bytes, as every matrix of the engine does; the host executor reads what counts alone.
  static size_t allocated(size_t bytes) {
#ifdef EEP_TEST_CUDA
    return (bytes + 15) / 16 * 16;
#else
    return bytes;
#endif
  }

  size_t count_ = 0;
  T* data_ = nullptr;
};

// run() -> vector, under every schedule of the host executor (on a GPU: as often): all results must have the
// bits of the first, which is returned.
template <typename Run>
auto same_bits_in_schedules(const Run& run) {
  simt::schedule = simt::kSchedules[0];
  const auto expected = run();
  for (const simt::Schedule& schedule : simt::kSchedules) {
    simt::schedule = schedule;
    const int order = static_cast<int>(schedule.order);
    CAPTURE(order);
    const auto result = run();
    REQUIRE(result.size() == expected.size());
    CHECK(std::memcmp(result.data(), expected.data(), expected.size() * sizeof(expected[0])) == 0);
  }
  simt::schedule = simt::kSchedules[0];
  return expected;
}

// f() throws, and the message contains `text`.
template <typename Function>
bool throws_with(const Function& f, const char* text) {
  try {
    f();
  } catch (const std::exception& error) {
    if (std::strstr(error.what(), text) != nullptr) return true;
    const std::string got = std::string("expected '") + text + "', got '" + error.what() + "'";
    MESSAGE(got);
    return false;
  }
  const std::string got = std::string("expected '") + text + "', nothing thrown";
  MESSAGE(got);
  return false;
}

}  // namespace eep::test
