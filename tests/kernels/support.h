// What the tests of the ops share: seeded data, packed weights, and the check that a result has the same bits
// on every instruction set and with any number of threads.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu_target.h"
#include "kernels/device.h"
#include "kernels/float16.h"
#include "kernels/gemm.h"
#include "kernels/noise.h"
#include "kernels/tensor.h"

namespace eep::test {

using Floats = std::vector<float>;

// Addressed test data: values depend on the seed and the index alone.
class Data {
 public:
  explicit Data(uint64_t seed) : seed_(seed) {}

  // n values in [-scale, scale).
  Floats floats(int64_t n, float scale = 1.0f) {
    Floats values(static_cast<size_t>(n));
    for (float& value : values) value = static_cast<float>(uniform() * 2 - 1) * scale;
    return values;
  }
  double uniform() {
    const auto word = philox({next_++, 0, 0, 0}, seed_);
    return philox_uniform_double(word[0], word[1]);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }

 private:
  uint64_t seed_;
  uint32_t next_ = 0;
};

inline uint16_t narrow(float value, DType dtype) {
  return dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
}
inline float widen(uint16_t bits, DType dtype) {
  return dtype == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

// Values rounded to a dtype: as bytes, and as the f32 values that those bytes mean.
struct Typed {
  std::vector<char> bytes;
  Floats values;

  Typed(const Floats& source, DType dtype) : bytes(source.size() * dtype_size(dtype)), values(source) {
    if (dtype == DType::kF32) {
      std::memcpy(bytes.data(), source.data(), bytes.size());
      return;
    }
    for (size_t i = 0; i < source.size(); ++i) {
      const uint16_t bits = narrow(source[i], dtype);
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
      values[i] = widen(bits, dtype);
    }
  }
};

// A weight matrix [n, k], packed, with its values.
struct Weights {
  Floats values;  // [n, k]
  Buffer buffer;
  PackedMatrix packed;

  Weights(const Floats& source, int64_t n, int64_t k, DType dtype) : buffer(gemm_packed_bytes(n, k, dtype)) {
    Typed typed(source, dtype);
    values = typed.values;
    packed = gemm_pack_cpu(typed.bytes.data(), n, k, k, 1, dtype, buffer.data());
  }
};

inline Device cpu(int threads) {
  Device device;
  device.threads = threads;
  return device;
}

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
