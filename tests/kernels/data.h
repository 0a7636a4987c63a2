// Seeded data and packed weights, for the tests and the benchmarks of the ops.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/common/device.h"
#include "kernels/common/float16.h"
#include "kernels/common/tensor.h"
#include "kernels/gemm.h"
#include "kernels/noise.h"

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

}  // namespace eep::test
