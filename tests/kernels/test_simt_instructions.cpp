// The host executor: asynchronous copies, ldmatrix, mma, 16-bit types.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/simt_support.h"

using namespace eep;
using namespace eep::test;

namespace {

// ---- asynchronous copies -----------------------------------------------------------------------------
enum Fault { kNone, kNoWait, kNoCommit, kNeverUsed, kMisaligned };
template <Fault kFault>
__global__ void copy_through_stages(const float* in, float* out, int chunks) {  // [chunks, 64 threads, 4]
  float4(*const stage)[64] = gpu::dynamic_shared<float4[64]>();
  const int t = threadIdx.x, partner = 63 - t;  // in the other warp
  for (int c = 0; c < chunks; ++c) {
    char* const to = reinterpret_cast<char*>(&stage[c % 2][t]);
    cp_async_16(kFault == kMisaligned ? to + 4 : to, in + (c * 64 + t) * 4, t == 5 ? 8 : 16);
    if (kFault != kNoCommit) cp_async_commit();
    if (kFault != kNoWait) cp_async_wait<0>();
    __syncthreads();
    out[(c * 64 + partner) * 4] = stage[c % 2][partner].x;
    out[(c * 64 + partner) * 4 + 3] = stage[c % 2][partner].w;
  }
  if (kFault == kNeverUsed) cp_async_16(&stage[0][t], in);
}
template <Fault kFault>
bool copies() {
  const int chunks = 3;
  OnDevice<float> in(chunks * 64 * 4), out(chunks * 64 * 4);
  for (int64_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i + 1);
  run(copy_through_stages<kFault>, {1, 64, 2 * 64 * sizeof(float4)}, in.data(), out.data(), chunks);
  bool ok = true;
  for (int r = 0; r < chunks * 64; ++r)
    ok &= out[r * 4] == in[r * 4] && out[r * 4 + 3] == (r % 64 == 5 ? 0.0f : in[r * 4 + 3]);
  return ok;
}
SIMT_CASE("simt: asynchronous copies") {
  CHECK(copies<kNone>());
  CHECK(throws_with(copies<kMisaligned>, "cp.async needs 16-byte alignment"));
  if (simt::schedule.order != simt::Order::kReverse) {  // copies as late as possible
    CHECK(throws_with(copies<kNoWait>, "did not wait for"));
    CHECK(throws_with(copies<kNoCommit>, "did not wait for"));
    CHECK(throws_with(copies<kNeverUsed>, "did not wait for"));
  }
}

__global__ void refill_too_early(const float* in, float* out) {
  float4* const stage = gpu::dynamic_shared<float4>();
  const int t = threadIdx.x;
  stage[t].x = 1;
  __syncthreads();
  out[t] = stage[63 - t].x;
  cp_async_16(&stage[t], in);  // the other warp may still read it
  cp_async_commit();
  __syncthreads();
  cp_async_wait<0>();
}
SIMT_CASE("simt: a refill that is too early shows when copies land at once") {
  if (kRacesStop) return;
  OnDevice<float> in(4), out(64);
  run(refill_too_early, {1, 64, 64 * sizeof(float4)}, in.data(), out.data());
  const bool right = std::count(out.data(), out.data() + 64, 1.0f) == 64;
  CHECK(right == (simt::schedule.order != simt::Order::kReverse));
}

__global__ void copy_small(const char* in, uint32_t* out) {  // [3, 8 bytes] by pieces of 8 and 4
  char* const to = gpu::dynamic_shared<char>();
  if (threadIdx.x == 0) {
    cp_async_8(to, in);
    cp_async_4(to + 8, in + 8);
    cp_async_4(to + 12, in + 12, 2);
    cp_async_8(to + 16, in, 0);
    cp_async_commit();
    cp_async_wait<0>();
  }
  __syncthreads();
  if (threadIdx.x < 6) memcpy(&out[threadIdx.x], to + 4 * threadIdx.x, 4);
}
__global__ void copy_small_misaligned(const char* in) { cp_async_8(gpu::dynamic_shared<char>(), in + 4); }
SIMT_CASE("simt: asynchronous copies of 8 and 4 bytes") {
  OnDevice<char> in(16);
  for (int i = 0; i < 16; ++i) in[i] = static_cast<char>(i + 1);
  OnDevice<uint32_t> out(6);
  run(copy_small, {1, 32, 24}, in.data(), out.data());
  CHECK(out.values() == std::vector<uint32_t>{0x04030201, 0x08070605, 0x0c0b0a09, 0x0e0d, 0, 0});
  CHECK(throws_with(
      [&] {
        run(copy_small_misaligned, {1, 1, 24}, in.data());
      },
      "cp.async needs 8-byte alignment"));
}

// ---- tensor cores ------------------------------------------------------------------------------------
__global__ void load_both_ways(const uint16_t* in, uint32_t* out) {  // [4, 8, 8]; [8, 32 lanes]
  uint16_t* const m = gpu::dynamic_shared<uint16_t>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) m[i] = in[i];
  __syncwarp();
  uint32_t straight[4], transposed[4];
  ldmatrix_x4(straight, m + lane * 8);
  ldmatrix_x4_trans(transposed, m + lane * 8);
  for (int r = 0; r < 4; ++r) out[r * 32 + lane] = straight[r], out[(4 + r) * 32 + lane] = transposed[r];
}
SIMT_CASE("simt: ldmatrix both ways") {
  OnDevice<uint16_t> in(256);
  OnDevice<uint32_t> out(8 * 32);
  for (int i = 0; i < 256; ++i) in[i] = static_cast<uint16_t>(i / 64 * 1000 + i / 8 % 8 * 10 + i % 8);
  run(load_both_ways, {1, 32, 512}, in.data(), out.data());
  for (unsigned m = 0; m < 4; ++m)  // an element is 1000 matrix + 10 row + column
    for (unsigned l = 0; l < 32; ++l) {
      const unsigned g = l / 4, q = l % 4, at = m * 1000;
      const unsigned s = at + g * 10 + 2 * q, t = at + 2 * q * 10 + g;
      CHECK(out[m * 32 + l] == (s | (s + 1) << 16));
      CHECK(out[(4 + m) * 32 + l] == (t | (t + 10) << 16));
    }
}
__global__ void load_misaligned() {
  uint32_t x[4];
  ldmatrix_x4(x, gpu::dynamic_shared<char>() + threadIdx.x * 16 + 2);
}
SIMT_CASE("simt: misaligned ldmatrix is refused") {
  CHECK(throws_with([] { run(load_misaligned, {1, 32, 1024}); }, "ldmatrix needs 16-byte alignment"));
}

template <bool kHalf>
__global__ void multiply(const uint16_t* a, const uint16_t* b, float* d) {  // [16, 16], [8, 16], [16, 8]
  const int g = threadIdx.x / 4, q = threadIdx.x % 4;
  uint32_t fa[4], fb[2];
  float fd[4];
  for (int r = 0; r < 4; ++r) memcpy(&fa[r], a + (g + r % 2 * 8) * 16 + 2 * q + r / 2 * 8, 4);
  for (int r = 0; r < 2; ++r) memcpy(&fb[r], b + g * 16 + 2 * q + 8 * r, 4);
  for (int r = 0; r < 4; ++r) fd[r] = d[(g + r / 2 * 8) * 8 + 2 * q + r % 2];
  if (kHalf)
    mma_f16(fd, fa, fb);
  else
    mma_bf16(fd, fa, fb);
  for (int r = 0; r < 4; ++r) d[(g + r / 2 * 8) * 8 + 2 * q + r % 2] = fd[r];
}
template <bool kHalf>
void compare_with_double() {
  const auto narrow = kHalf ? simt::float_to_half : simt::float_to_bf16;
  const auto widen = kHalf ? f16_to_f32 : bf16_to_f32;
  OnDevice<uint16_t> a(256), b(128);
  OnDevice<float> d(128, 0.5f);
  for (int i = 0; i < 256; ++i) a[i] = narrow(static_cast<float>(i * 73 % 251) * 0.013f - 1.5f);
  for (int i = 0; i < 128; ++i) b[i] = narrow(static_cast<float>(i * 91 % 127) * 0.021f - 1.2f);
  run(multiply<kHalf>, {1, 32}, a.data(), b.data(), d.data());
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      double sum = 0.5, magnitude = 0.5;
      for (int k = 0; k < 16; ++k) {
        const double x = widen(a[i * 16 + k]), product = x * widen(b[j * 16 + k]);
        sum += product;
        magnitude += std::abs(product);
      }
      CHECK(std::abs(d[i * 8 + j] - sum) <=
            17 * 0x1p-23 * magnitude);  // 16 additions within an ulp, and one more
    }
}
SIMT_CASE("simt: mma equals double") {
  compare_with_double<false>();
  compare_with_double<true>();
}

// ---- 16-bit types -------------------------------------------------------------------------------------
// Every finite value round-trips; halfway between neighbours goes to the even one, beside it to the nearer.
template <class Encode, class Decode>
void check_rounding(Encode encode, Decode decode) {
  constexpr uint16_t kInfinity = 0x7f80, kSign = 0x8000;
  for (uint16_t bits = 0; bits < kInfinity; ++bits) {
    const int exponent = bits >> 7, fraction = bits & 127;
    const double exact = exponent ? std::ldexp(128 + fraction, exponent - 134) : std::ldexp(fraction, -133);
    CHECK((double{decode(bits)} == exact && encode(decode(bits)) == bits));
    CHECK((double{decode(bits | kSign)} == -exact && encode(-decode(bits)) == (bits | kSign)));
    const uint16_t next = bits + 1;
    if (next == kInfinity) continue;
    const float middle = static_cast<float>((exact + double{decode(next)}) / 2);
    CHECK(encode(middle) == (bits % 2 ? next : bits));
    CHECK((encode(std::nextafter(middle, 0.0f)) == bits && encode(std::nextafter(middle, INFINITY)) == next));
  }
  CHECK(std::isinf(decode(kInfinity)));
  CHECK((encode(INFINITY) == kInfinity && encode(-INFINITY) == (kInfinity | kSign)));
  CHECK((encode(3.4e38f) == kInfinity && std::isnan(decode(0x7fff)) && encode(NAN) == 0x7fff));
}
SIMT_CASE("simt: bf16 rounds to nearest even") {
  if (simt::schedule.order != simt::Order::kForward) return;  // no kernel: once is enough
  check_rounding([](float v) { return __bfloat16_as_ushort(__float2bfloat16(v)); },
                 [](uint16_t v) { return __bfloat162float(__ushort_as_bfloat16(v)); });
  const float2 pair = __bfloat1622float2(__floats2bfloat162_rn(1.0f, -2.5f));
  CHECK((pair.x == 1.0f && pair.y == -2.5f));
}

SIMT_CASE("simt: half rounds to nearest even") {
  if (simt::schedule.order != simt::Order::kForward) return;
  for (uint16_t bits = 0; bits < 0x7c00; ++bits) {
    const float value = __half2float(__ushort_as_half(bits));
    CHECK(__half_as_ushort(__float2half(value)) == bits);
    if (bits == 0x7bff) continue;
    const float middle = (value + __half2float(__ushort_as_half(bits + 1))) / 2;
    CHECK(__half_as_ushort(__float2half(middle)) == (bits % 2 ? bits + 1 : bits));
  }
  const float2 pair = __half22float2(__floats2half2_rn(1.0f, -2.5f));
  CHECK(pair.x == 1.0f);
  CHECK(pair.y == -2.5f);
  CHECK(std::isnan(__half2float(__float2half(NAN))));
}

}  // namespace
