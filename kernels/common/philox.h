// philox: counter-based random numbers. Philox4x32-10 of a counter under a key (the seed): the same integers
// as cuRAND's Philox and Random123, on every machine. Numbers are addressed, never drawn in sequence.
#pragma once

#include <array>
#include <cstdint>

namespace eep {

// Block of four 32-bit words for a 128-bit counter and a 64-bit key.
std::array<uint32_t, 4> philox(const std::array<uint32_t, 4>& counter, uint64_t key);

// x * 2^-32 + 2^-33, in (0, 1]; exact product, so the bits equal cuRAND's curand_uniform.
float philox_uniform(uint32_t word);
// 53 random bits of two words, in [0, 1).
double philox_uniform_double(uint32_t high, uint32_t low);
// Standard normal of two words by Box-Muller over our own logarithm, sine and cosine (exactly rounded
// operations): same bits everywhere.
double philox_normal(uint32_t first, uint32_t second);

}  // namespace eep
