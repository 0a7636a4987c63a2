// The host executor: operations within a warp, and atomics.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/simt_support.h"

using namespace eep;
using namespace eep::test;

namespace {

// ---- warp operations ---------------------------------------------------------------------------------
__global__ void shuffles(int* wrong) {
  const int lane = threadIdx.x % 32, v = 100 + lane, half = lane / 16 * 16;
  bool ok = __shfl_sync(~0u, v, 5) == 105;
  ok &= __shfl_sync(~0u, v, 3, 16) == 103 + half && __shfl_sync(~0u, v, 35) == 103;
  ok &= __shfl_xor_sync(~0u, v, 9) == 100 + (lane ^ 9);
  ok &= __shfl_up_sync(~0u, v, 3) == (lane < 3 ? v : v - 3);
  ok &= __shfl_up_sync(~0u, v, 3, 8) == (lane % 8 < 3 ? v : v - 3);
  ok &= __shfl_down_sync(~0u, v, 3) == (lane > 28 ? v : v + 3);
  ok &= __shfl_down_sync(~0u, v, 3, 8) == (lane % 8 > 4 ? v : v + 3);
  ok &= __shfl_sync(~0u, lane * 1.5, 7) == 10.5;
  ok &= __shfl_sync(~0u, static_cast<long long>(lane) << 40, 2) == 2LL << 40;
  ok &= __bfloat162float(__shfl_sync(~0u, __float2bfloat16(static_cast<float>(lane)), 31)) == 31.0f;
  if (lane < 16)
    ok &= __shfl_xor_sync(0xffffu, v, 15) == 100 + 15 - lane;  // two halves, two different ways
  else
    for (int i = 0; i < 3; ++i) ok &= __shfl_sync(0xffff0000u, v + i, 16 + i) == 116 + 2 * i;
  if (!ok) atomicAdd(wrong, 1);
}
SIMT_CASE("simt: shuffles of all kinds") {
  OnDevice<int> wrong(1);
  run(shuffles, {2, 64}, wrong.data());
  CHECK(wrong[0] == 0);
}

__global__ void votes(int* wrong) {
  const int lane = threadIdx.x % 32;
  bool ok = __ballot_sync(~0u, lane % 3 == 0) == 0x49249249u;
  ok &= __any_sync(~0u, lane == 31) && !__any_sync(~0u, 0);
  ok &= __all_sync(~0u, 1) && !__all_sync(~0u, lane != 31);
  ok &= __match_any_sync(~0u, lane % 4) == 0x11111111u << lane % 4;
  ok &= __reduce_add_sync(~0u, lane) == 496;
  ok &= __reduce_min_sync(~0u, lane - 7) == -7 && __reduce_max_sync(~0u, 3u * lane) == 93u;
  ok &= __reduce_and_sync(~0u, lane | 64u) == 64u && __reduce_or_sync(~0u, 1u << lane) == ~0u;
  ok &= __reduce_xor_sync(~0u, lane + 1u) == 32u;
  if (lane % 2) ok &= __reduce_add_sync(0xaaaaaaaau, 1) == 16;
  __syncwarp();
  if (!ok) atomicAdd(wrong, 1);
}
__global__ void match_all(int* wrong) {
  const int lane = threadIdx.x % 32;
  int equal = -1;
  bool ok = __match_all_sync(~0u, 7, &equal) == ~0u && equal == 1;
  ok &= __match_all_sync(~0u, lane / 31, &equal) == 0 && equal == 0;
  if (lane < 8) ok &= __match_all_sync(0xffu, lane / 8, &equal) == 0xffu && equal == 1;
  if (!ok) atomicAdd(wrong, 1);
}
SIMT_CASE("simt: match all") {
  OnDevice<int> wrong(1);
  run(match_all, {1, 64}, wrong.data());
  CHECK(wrong[0] == 0);
}
SIMT_CASE("simt: votes matches reductions") {
  OnDevice<int> wrong(1);
  run(votes, {1, 64}, wrong.data());
  CHECK(wrong[0] == 0);
}

__global__ void partial_warp(int* sum) {  // the full mask means the lanes that exist
  const int total = __reduce_add_sync(~0u, 1);
  if (threadIdx.x == 0) *sum = total;
}
__global__ void exchange_in_warp(int* wrong) {  // __syncwarp() orders memory
  __shared__ int slot[64];
  const int base = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
  for (int round = 0; round < 3; ++round) {
    slot[threadIdx.x] = lane + round;
    __syncwarp();
    if (slot[base + (lane + 1) % 32] != (lane + 1) % 32 + round) atomicAdd(wrong, 1);
    __syncwarp();
  }
}
SIMT_CASE("simt: partial warps and syncwarp") {
  OnDevice<int> sum(1), wrong(1);
  run(partial_warp, {1, 20}, sum.data());
  run(exchange_in_warp, {2, 64}, wrong.data());
  CHECK((sum[0] == 20 && wrong[0] == 0));
}

__global__ void not_in_mask() { __syncwarp(0xfffffffeu); }
__global__ void absent_source() {
  if (threadIdx.x < 8) __shfl_sync(0xffu, 1, 8);
}
__global__ void half_returns() {
  if (threadIdx.x < 16) return;
  __shfl_xor_sync(~0u, 1, 1);
}
__global__ void beyond_block() { __syncwarp(0x1ffffu); }
__global__ void two_operations() {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    __syncwarp();
}
__global__ void overlapping_masks() { __ballot_sync(threadIdx.x < 31 ? ~0u : ~1u, 1); }
__global__ void warp_or_block() {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    __syncthreads();
}
SIMT_CASE("simt: impossible warp operations are refused") {
  CHECK(throws_with([] { run(not_in_mask, {1, 32}); }, "lane 0 is not in its own mask"));
  CHECK(throws_with([] { run(absent_source, {1, 32}); }, "reads lane 8, which takes no part, at"));
  CHECK(throws_with([] { run(half_returns, {1, 32}); }, "threads 0-15 returned; threads 16-31 in"));
  CHECK(throws_with([] { run(beyond_block, {1, 16}); }, "beyond the block"));
  CHECK(throws_with([] { run(two_operations, {1, 32}); }, "one warp meets at test_simt_warp.cpp:"));
  CHECK(throws_with([] { run(overlapping_masks, {1, 32}); }, "or with other masks"));
  CHECK(throws_with([] { run(warp_or_block, {1, 32}); }, "threads 0-15 in warp operation"));
}

// ---- atomics -----------------------------------------------------------------------------------------
__global__ void atomics(int* i, unsigned* u, float* f, double* d) {
  const int t = threadIdx.x + blockIdx.x * blockDim.x;
  atomicAdd(&i[0], t);
  atomicSub(&i[1], 1);
  atomicMin(&i[2], -t);
  atomicMax(&i[3], t);
  atomicAdd(&u[0], 1);  // an int converts, as in CUDA
  atomicOr(&u[1], 1u << t % 32);
  atomicAnd(&u[2], ~(1u << t % 16));
  atomicXor(&u[3], t);
  atomicAdd(f, 0.5f);
  atomicAdd(d, 0.25);
  if (atomicCAS(&i[4], 0, 1) == 0) atomicExch(&i[5], 42);
}
SIMT_CASE("simt: atomics of all kinds") {
  OnDevice<int> i(6);
  OnDevice<unsigned> u(4);
  OnDevice<float> f(1);
  OnDevice<double> d(1);
  u[2] = ~0u;
  run(atomics, {2, 64}, i.data(), u.data(), f.data(), d.data());
  CHECK((i[0] == 127 * 64 && i[1] == -128 && i[2] == -127 && i[3] == 127 && i[4] == 1 && i[5] == 42));
  CHECK((u[0] == 128 && u[1] == ~0u && u[2] == 0xffff0000u && u[3] == 0));
  CHECK((f[0] == 64.0f && d[0] == 32.0));
}

__global__ void histogram(const int* expert, int n, int* count) {  // in shared memory first
  __shared__ int bin[8];
  if (threadIdx.x < 8) bin[threadIdx.x] = 0;
  __syncthreads();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(&bin[expert[i]], 1);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(&count[threadIdx.x], bin[threadIdx.x]);
}
SIMT_CASE("simt: shared histogram") {
  const int n = 1000;
  OnDevice<int> expert(n), count(8);
  std::vector<int> expected(8);
  for (int i = 0; i < n; ++i) ++expected[expert[i] = i * i % 8];
  run(histogram, {8, 128}, expert.data(), n, count.data());
  for (int e = 0; e < 8; ++e) CHECK(count[e] == expected[e]);
}

}  // namespace
