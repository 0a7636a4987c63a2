// noise against cuRAND's own generator, compiled for the host, where the toolkit's headers are.
#include <doctest/doctest.h>

#if __has_include(<curand_kernel.h>) && __has_include(<cuda_runtime.h>)
#define QUALIFIERS static __host__ __device__ __forceinline__
#include <curand_kernel.h>

#include "kernels/noise.h"

using namespace eep;

TEST_CASE("noise: equals cuRAND's integers and uniform numbers") {
  for (uint32_t i = 0; i < 1000; ++i) {
    const uint64_t seed = 0x123456789abcdefu * i, at = uint64_t{i} << (i % 40);
    const uint32_t stream = i * 77;
    curandStatePhilox4_32_10_t state;
    curand_init(seed, stream, 4 * at, &state);
    const auto word = philox({static_cast<uint32_t>(at), static_cast<uint32_t>(at >> 32), stream, 0}, seed);
    const uint4 expected = curand4(&state);
    REQUIRE(word == std::array<uint32_t, 4>{expected.x, expected.y, expected.z, expected.w});
    curand_init(seed, stream, 4 * at + 1, &state);
    REQUIRE(philox_uniform(word[1]) == curand_uniform(&state));
  }
}
#endif
