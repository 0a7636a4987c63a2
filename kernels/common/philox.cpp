// philox: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) and what is made
// of its words. Integer code and exactly rounded operations only.
#include "kernels/common/philox.h"

#include <cmath>

#include "kernels/common/scalar_math.h"

namespace eep {

std::array<uint32_t, 4> philox(const std::array<uint32_t, 4>& counter, uint64_t key) {
  uint32_t key_low = static_cast<uint32_t>(key), key_high = static_cast<uint32_t>(key >> 32);
  std::array<uint32_t, 4> c = counter;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ key_low, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ key_high, static_cast<uint32_t>(a)};
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return c;
}

float philox_uniform(uint32_t word) { return std::fma(static_cast<float>(word), 0x1p-32f, 0x1p-33f); }

double philox_uniform_double(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

// sqrt(-2 log u) cos(2 pi v), u = (first + 1/2) 2^-32 in (0, 1), v = second 2^-32
double philox_normal(uint32_t first, uint32_t second) {
  const double u = (static_cast<double>(first) + 0.5) * 0x1p-32;
  const double angle = static_cast<double>(second) * (0x1p-32 * 6.28318530717958623200e+00);
  return std::sqrt(-2.0 * logarithm(u)) * sine_cosine(angle).cosine;
}

}  // namespace eep
