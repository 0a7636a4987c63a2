// The host executor: launches, schedules, shared memory, barriers, streams; what it computes and what it
// refuses.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/simt_support.h"

using namespace eep;
using namespace eep::test;

namespace {

using simt::Order;

// ---- indices, launches -------------------------------------------------------------------------------
__global__ void number_threads(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  atomicAdd(&out[block * blockDim.x * blockDim.y * blockDim.z + thread], 1);
}
SIMT_CASE("simt: every thread runs once") {
  OnDevice<int> out(3 * 4 * 5 * 6 * 7 * 2);
  run(number_threads, {dim3(3, 4, 5), dim3(6, 7, 2)}, out.data());
  for (int64_t i = 0; i < out.size(); ++i) CHECK(out[i] == 1);
}

__global__ void note_order(int* turn, int* by_block, int* by_thread) {
  const int now = atomicAdd(turn, 1);
  if (threadIdx.x == 0) by_block[blockIdx.x] = now / blockDim.x;
  if (blockIdx.x == 0) by_thread[threadIdx.x] = now % blockDim.x;
}
SIMT_CASE("simt: schedules differ and repeat") {
  std::vector<int> first;
  for (int repeat = 0; repeat < 2; ++repeat) {
    OnDevice<int> turn(1), by_block(10), by_thread(64);
    run(note_order, {10, 64}, turn.data(), by_block.data(), by_thread.data());
    std::vector<int> order(by_block.data(), by_block.data() + 10);
    order.insert(order.end(), by_thread.data(), by_thread.data() + 64);
    if (repeat == 0) first = order;
    CHECK(order == first);
    const bool forward = order[0] == 0 && order[9] == 9 && order[10] == 0 && order[73] == 63;
    const bool reverse = order[0] == 9 && order[9] == 0 && order[10] == 63 && order[73] == 0;
    CHECK(forward == (simt::schedule.order == Order::kForward));
    CHECK(reverse == (simt::schedule.order == Order::kReverse));
  }
}

__global__ void nothing() {}
__global__ void launch_inside() { run(nothing, {1, 1}); }
SIMT_CASE("simt: impossible launches are refused") {
  CHECK(throws_with([] { run(nothing, {1, 1025}); }, "cannot have 1025 threads"));
  CHECK(throws_with([] { run(nothing, {0, 32}); }, "0 blocks"));
  CHECK(throws_with([] { run(nothing, {dim3(1, 65536), 32}); }, "65536 blocks"));
  CHECK(throws_with([] { run(nothing, {1, 32, 300 << 10}); }, "shared bytes"));
  CHECK(throws_with([] { run(launch_inside, {1, 1}); }, "a launch during another"));
  run(nothing, {1, 1024});  // and all is well afterwards
}

// ---- shared memory and barriers ----------------------------------------------------------------------
// Softmax of a row: a block reduction twice, through static and dynamic shared memory.
template <bool kFirst, bool kSecond>  // whether the barriers are there
__device__ float block_reduce(float v, bool want_max) {
  __shared__ float part[4];
  for (int m = 16; m > 0; m /= 2) {
    const float other = __shfl_xor_sync(~0u, v, m);
    v = want_max ? fmaxf(v, other) : v + other;
  }
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  if (kFirst) __syncthreads();
  v = part[0];
  for (int w = 1; w < 4; ++w) v = want_max ? fmaxf(v, part[w]) : v + part[w];
  if (kSecond) __syncthreads();
  return v;
}
template <bool kFirst, bool kSecond>
__global__ void softmax(const float* in, float* out, int n) {
  float* const row = gpu::dynamic_shared<float>();
  in += blockIdx.x * n;
  out += blockIdx.x * n;
  for (int i = threadIdx.x; i < n; i += blockDim.x) row[i] = in[i];
  __syncthreads();
  const int mirror = n - 1 - threadIdx.x;  // read what another thread wrote
  const float v = threadIdx.x < static_cast<unsigned>(n) ? row[mirror] : -INFINITY;
  const float top = block_reduce<kFirst, kSecond>(v, true);
  const float e = expf(v - top), sum = block_reduce<kFirst, kSecond>(e, false);
  if (threadIdx.x < static_cast<unsigned>(n)) out[mirror] = e / sum;
}
double softmax_error(void (*kernel)(const float*, float*, int)) {
  const int n = 101, rows = 3;
  OnDevice<float> in(rows * n), out(rows * n, NAN);
  for (int i = 0; i < rows * n; ++i) in[i] = static_cast<float>(i * 37 % 101) * 0.1f;
  run(kernel, {rows, 128, n * sizeof(float)}, in.data(), out.data(), n);
  double worst = 0;
  for (int r = 0; r < rows; ++r) {
    double sum = 0;
    for (int i = 0; i < n; ++i) sum += std::exp(double{in[r * n + i]});
    for (int i = 0; i < n; ++i) {
      const double error = std::abs(out[r * n + i] - std::exp(double{in[r * n + i]}) / sum);
      worst = error <= worst ? worst : error;  // a NaN becomes the worst
    }
  }
  return worst;
}
SIMT_CASE("simt: block softmax") { CHECK(softmax_error(softmax<true, true>) < 1e-6); }
SIMT_CASE("simt: a missing barrier gives a wrong result") {
  if (kRacesStop) return;
  CHECK(!(softmax_error(softmax<false, true>) < 1e-6));
  CHECK(!(softmax_error(softmax<true, false>) < 1e-6));
}

__global__ void see_fresh_shared(int* fresh) {
  float* const x = gpu::dynamic_shared<float>();
  if (isnan(x[threadIdx.x])) atomicAdd(fresh, 1);
  x[threadIdx.x] = 0;
}
SIMT_CASE("simt: dynamic shared starts as nan in every block") {
  OnDevice<int> fresh(1);
  run(see_fresh_shared, {5, 64, 64 * sizeof(float)}, fresh.data());
  CHECK(fresh[0] == 5 * 64);
}

__global__ void divergent_barriers() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void one_warp_returns() {
  if (threadIdx.x / 32 == 1) return;
  __syncthreads();
}
__global__ void uneven_barriers() {
  for (unsigned i = 0; i <= threadIdx.x / 32; ++i) __syncthreads();
}
SIMT_CASE("simt: divergent barriers are refused") {
  CHECK(throws_with([] { run(divergent_barriers, {1, 64}); }, "threads 0-31 at barrier test_simt.cpp:"));
  CHECK(throws_with([] { run(one_warp_returns, {1, 96}); }, "threads 32-63 returned"));
  CHECK(throws_with([] { run(uneven_barriers, {1, 64}); }, "threads 0-31 returned"));
}

__global__ void throw_in(unsigned thread) {
  __syncthreads();
  if (threadIdx.x == thread) __trap();
  __syncthreads();
}
SIMT_CASE("simt: an exception leaves the kernel") {
  CHECK(throws_with([] { run(throw_in, {2, 64}, 40); }, "__trap() [block"));
  CHECK(throws_with([] { run(throw_in, {2, 64}, 40); }, "thread 40]"));
  run(throw_in, {2, 64}, 64);
}

// ---- many blocks: nothing piles up -------------------------------------------------------------------
__global__ void touch(int* count) {
  __syncthreads();
  atomicAdd(count, 1);
}
SIMT_CASE("simt: many blocks and launches") {
  OnDevice<int> count(1);
  run(touch, {70000, 1}, count.data());
  for (int i = 0; i < 500; ++i) run(touch, {1, 33}, count.data());
  CHECK(count[0] == 70000 + 500 * 33);
}

// ---- named barriers ----------------------------------------------------------------------------------
// Warps 0 and 1 hand values to warps 2 and 3, which hand back that the place is free; warp 4 takes no part.
template <bool kWaits>
__global__ void hand_over(int* sum, int rounds) {
  int* const place = gpu::dynamic_shared<int>();
  const int warp = threadIdx.x / 32;
  if (warp < 2) {
    for (int round = 0; round < rounds; ++round) {
      if (round > 0) bar_sync(2, 128);
      place[threadIdx.x] = round + static_cast<int>(threadIdx.x);
      bar_arrive(1, 128);
    }
  } else if (warp < 4) {
    for (int round = 0; round < rounds; ++round) {
      if (kWaits)
        bar_sync(1, 128);
      else
        bar_arrive(1, 128);
      sum[threadIdx.x - 64] += place[127 - threadIdx.x];
      if (round + 1 < rounds) bar_arrive(2, 128);
    }
  }
}
SIMT_CASE("simt: named barriers order some of the warps") {
  OnDevice<int> sum(64);
  run(hand_over<true>, {2, 160, 256}, sum.data(), 5);
  for (int i = 0; i < 64; ++i) CHECK(sum[i] == 2 * (10 + 5 * (63 - i)));
}

__global__ void wait_alone() { bar_sync(3, 64); }
__global__ void barrier_zero() { bar_sync(0, 32); }
__global__ void two_counts() { bar_sync(1, threadIdx.x < 32 ? 64 : 96); }
__global__ void arrive_alone() {
  if (threadIdx.x < 32) bar_arrive(1, 64);
}
SIMT_CASE("simt: impossible named barriers are refused") {
  CHECK(throws_with([] { run(wait_alone, {1, 32}); }, "threads 0-31 at named barrier test_simt.cpp:"));
  CHECK(throws_with([] { run(barrier_zero, {1, 32}); }, "there is no named barrier 0"));
  CHECK(throws_with([] { run(two_counts, {1, 96}); }, "named barrier 1 expects"));
  CHECK(throws_with([] { run(arrive_alone, {1, 64}); }, "cannot go on"));
}

// ---- streams -----------------------------------------------------------------------------------------
__global__ void append(int* list, int value) { list[++list[0]] = value; }
TEST_CASE("simt: a stream runs its work in order, when it is waited for") {
  simt::Stream first, second;
  Device one, two;
  one.stream = &first;
  two.stream = &second;
  OnDevice<int> list(8);
  const auto give = [&list](const Device& device, int value) {
    gpu::launch(device, {.op = "append", .blocks = 1, .threads = 1}, append, list.data(), value);
  };
  give(one, 10);
  simt::Event event;
  event.record(first);
  give(one, 11);
  event.make_wait(second);
  give(two, 20);
  CHECK(list[0] == 0);
  second.synchronize();  // the event's stream runs up to the event
  CHECK(list.values() == std::vector<int>{2, 10, 20, 0, 0, 0, 0, 0});
  first.synchronize();
  CHECK(list.values() == std::vector<int>{3, 10, 20, 11, 0, 0, 0, 0});
}

__global__ void add_up(const int* values, int n, int* sum) {
  for (int i = 0; i < n; ++i) *sum += values[i];
}
TEST_CASE("simt: staged tables live until the stream has passed the op") {
  simt::Stream stream;
  Device device;
  device.stream = &stream;
  OnDevice<int> sum(1);
  {
    std::vector<int> values = {1, 2, 3};
    gpu::Staging staging(device);
    const int* staged = staging.put(values.data(), 3);
    CHECK(staged != values.data());
    CHECK(staging.put<int>(nullptr, 3) == nullptr);
    gpu::launch(device, {.op = "add_up", .blocks = 1, .threads = 1}, add_up, staged, 3, sum.data());
    values[0] = 100;
  }
  CHECK(sum[0] == 0);
  synchronize_simt(device);
  CHECK(sum[0] == 6);
}

__global__ void half_a_barrier() {
  if (threadIdx.x == 0) __syncthreads();
}
TEST_CASE("simt: a kernel that fails is named with its shapes, at once or when the stream comes to it") {
  const auto run = [](const Device& device) {
    gpu::launch(device, {.op = "half", .blocks = 1, .threads = 64, .shapes = {{"rows", 7}, {"n", 3}}},
                half_a_barrier);
    synchronize_simt(device);
  };
  simt::Stream stream;
  for (simt::Stream* in : {static_cast<simt::Stream*>(nullptr), &stream}) {
    Device device;
    device.stream = in;
    CHECK(throws_with([&] { run(device); }, "half: simt: "));
    CHECK(throws_with([&] { run(device); },
                      "(rows 7, n 3; 1x1x1 blocks of 64 threads, 0 bytes of shared memory)"));
  }
}

TEST_CASE("simt: memory is uploaded, copied, cleared and downloaded in the order of the stream") {
  simt::Stream stream;
  Device device = open_simt(0);
  device.stream = &stream;
  const std::vector<int> values = {1, 2, 3, 4};
  std::vector<int> back(4);
  int* const a = static_cast<int*>(allocate_simt(16, device));
  int* const b = static_cast<int*>(allocate_simt(16, device));
  upload_simt(a, values.data(), 16, device);
  copy_simt(b, a, 16, device);
  clear_simt(b + 1, 8, device);
  download_simt(back.data(), b, 16, device);
  CHECK(back == std::vector<int>{1, 0, 0, 4});
  release_simt(a, device);
  release_simt(b, device);
  close_simt(device);
}

}  // namespace
