// block.h - a grid of CUDA threads on one OS thread: scheduler, barrier, exchange within a warp, launch.
//
// Blocks run one after another. A thread keeps the CPU until it returns or waits for others: its block in
// __syncthreads(), its warp in a warp operation. Warps run as far apart as that allows (the first one until
// all its lanes wait, then the second, ...): in lock-step, a missing barrier would go unnoticed.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/simt/fiber.h"
#include "kernels/simt/schedule.h"
#include "kernels/simt/types.h"

inline uint3 threadIdx, blockIdx;  // set before a thread is resumed
inline dim3 blockDim, gridDim;

namespace simt {

constexpr int kWarp = 32;
constexpr size_t kMaxSharedBytes = 227 << 10;  // of a block on sm_90

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Where {  // a source line; here(), as a default argument, is the caller's
  const char* file = "";
  int line = 0;
  static constexpr Where here(const char* f = __builtin_FILE(), int l = __builtin_LINE()) { return {f, l}; }
  bool operator==(const Where& o) const { return line == o.line && !std::strcmp(file, o.file); }
  std::string text() const {
    const char* slash = std::strrchr(file, '/');
    return std::string(slash ? slash + 1 : file) + ":" + std::to_string(line);
  }
};

enum class Wait : uint8_t { kNothing, kBlock, kTheWarp, kNamed, kPhase, kNextBlock };
struct AsyncCopy {
  void* to;
  const void* from;
  int valid, bytes;  // read from `from`, and written to `to`, zeros at the end
  unsigned group;
};
struct TensorProduct {  // of a warpgroup's wgmma, this thread's part
  float (*d)[4];
  uint64_t a, b;  // descriptors
  bool add;
  void (*perform)(const TensorProduct&);
  unsigned group;
};
// Three dimensions of 16-bit elements, innermost first; what a box has beyond them is zeros.
struct alignas(64) TensorMap {
  const char* base;
  uint64_t extent[3];
  uint64_t stride[2];  // bytes, of the outer two
  uint32_t box[2];     // of the inner two; 1 of the outermost
};
struct TensorCopy {  // a box of a tensor on its way to shared memory, which `barrier` counts
  TensorMap map;     // not a pointer: a kernel's arguments outlive its threads on a device, not here
  void* to;
  int at[3];
  uint64_t* barrier;
};

struct Thread : Fiber {
  Wait wait = Wait::kNothing;
  Where where;                          // the operation it waits in
  unsigned mask = 0;                    // the lanes that take part in it
  const void* brought = nullptr;        // its value, on its own suspended stack
  void* gathered = nullptr;             // where it wants everyone's
  char arrive = 0, leave = 0;           // its edges in __syncwarp()
  std::vector<AsyncCopy> copies;        // issued, not yet performed
  unsigned copy_groups = 0;             // committed
  int named = 0;                        // the named barrier that it waits at
  const void* phase_of = nullptr;       // the mbarrier that it waits at
  std::vector<TensorProduct> products;  // issued, not yet performed
  unsigned product_groups = 0;          // committed
};
inline Thread thread[kMaxThreads];  // fibers are made once and serve one block after another
inline Fiber host;                  // the one that called launch()

constexpr int kTensorCopies = 64;   // more than any pipeline has under way
constexpr int kNamedBarriers = 16;  // of a block, as in hardware; number 0 is __syncthreads()'s
struct NamedBarrier {
  int expected = 0, arrived = 0;  // threads
  unsigned passed = 0;
  char edge[2] = {};
};

using Kernel = std::function<void()>;  // with its arguments
struct Block {                         // plain pointers: the scheduler calls no code that TSan watches
  const Kernel* kernel = nullptr;
  const int* order = nullptr;  // of turns
  char* shared = nullptr;      // exactly the bytes asked for: ASan guards the end
  size_t shared_bytes = 0;
  int threads = 0, current = 0, running = 0, at_barrier = 0;
  unsigned barriers = 0;                          // passed
  unsigned in_warp_op[kMaxThreads / kWarp] = {};  // lanes that wait
  char begin = 0, end = 0;                        // edges: from the host to every thread, and back
  char barrier[2] = {};                           // edges: one is still being left when the next is entered
  NamedBarrier named[kNamedBarriers];
  TensorCopy tensor_copies[kTensorCopies];
  int tensor_copy_count = 0;  // issued, not yet performed
  bool failed = false;
  std::exception_ptr error{};
};
inline Block* block = nullptr;  // the one that runs

inline std::string text(int64_t n) { return std::to_string(n); }
inline std::string place() {
  return "block " + text(blockIdx.x) + "," + text(blockIdx.y) + "," + text(blockIdx.z);
}
[[noreturn]] inline void fail(const std::string& what) {
  throw Error("simt: " + what + (block ? " [" + place() + " thread " + text(block->current) + "]" : ""));
}

// ---- threads -----------------------------------------------------------------------------------------
SIMT_UNSEEN inline Thread& self() { return thread[block->current]; }
SIMT_UNSEEN inline int lane() { return block->current % kWarp; }

SIMT_UNSEEN inline void resume(int i) {
  block->current = i;
  const auto at = static_cast<unsigned>(i);
  threadIdx = {at % blockDim.x, at / blockDim.x % blockDim.y, at / blockDim.x / blockDim.y};
  switch_fiber(host, thread[i]);
}

SIMT_UNSEEN inline void suspend(Wait wait, const Where& where) {
  Thread& t = self();
  t.wait = wait;
  t.where = where;
  switch_fiber(t, host, wait == Wait::kNextBlock);
}

__attribute__((noinline)) SIMT_UNSEEN inline void run_kernel() {
  observe(&block->begin);
  try {
    (*block->kernel)();
    if (!self().copies.empty()) fail("a thread ended with asynchronous copies that it did not wait for");
    if (!self().products.empty()) fail("a thread ended with a wgmma that it did not wait for");
  } catch (...) {
    block->error = std::current_exception();
    block->failed = true;
  }
  publish(&block->end);
}

SIMT_UNSEEN inline void thread_main() {  // the first frame of every fiber
  for (enter_fiber(host);;) {
    run_kernel();
    --block->running;
    suspend(Wait::kNextBlock, Where{});
  }
}

// ---- waiting for others ------------------------------------------------------------------------------
SIMT_UNSEEN inline void block_barrier(const Where& where) {
  char* const edge = &block->barrier[block->barriers % 2];
  ++block->at_barrier;
  publish(edge);
  suspend(Wait::kBlock, where);
  observe(edge);
}

// Some warps of a block: `expected` threads in all arrive at barrier `id`, those that wait go on together.
SIMT_UNSEEN inline void named_barrier(int id, int expected, bool waits, const Where& where) {
  if (id < 1 || id >= kNamedBarriers) fail("there is no named barrier " + text(id) + " at " + where.text());
  if (expected < kWarp || expected % kWarp)
    fail("a named barrier of " + text(expected) + " threads at " + where.text());
  NamedBarrier& barrier = block->named[id];
  if (barrier.arrived > 0 && barrier.expected != expected)
    fail("named barrier " + text(id) + " expects " + text(barrier.expected) + " threads, not " +
         text(expected) + ", at " + where.text());
  char* const edge = &barrier.edge[barrier.passed % 2];
  barrier.expected = expected;
  publish(edge);
  if (++barrier.arrived == expected) {
    barrier.arrived = 0;
    ++barrier.passed;
    for (int i = 0; i < block->threads; ++i)
      if (thread[i].wait == Wait::kNamed && thread[i].named == id) thread[i].wait = Wait::kNothing;
  } else if (waits) {
    self().named = id;
    suspend(Wait::kNamed, where);
  }
  if (waits) observe(edge);
}

template <class T>
struct Lanes {
  unsigned mask;   // the lanes that take part
  T value[kWarp];  // what each of them brought
};

// Every lane of `mask` brings a value and receives all of them; shuffles, votes, ldmatrix and mma are a few
// lines on top. It orders no memory accesses between lanes unless told to, as by __syncwarp().
template <class T>
SIMT_UNSEEN Lanes<T> gather(unsigned mask, const T& mine, const Where& where, bool orders_memory = false) {
  static_assert(std::is_trivially_copyable_v<T>);
  const int first = block->current - lane(), lanes = std::min(kWarp, block->threads - first);
  const unsigned all = mask & ~0u >> (kWarp - lanes);
  if (!(mask >> lane() & 1)) fail("lane " + text(lane()) + " is not in its own mask at " + where.text());
  if (mask != ~0u && mask != all) fail("the mask names lanes beyond the block at " + where.text());

  Lanes<T> result{};
  Thread& t = self();
  t.brought = &mine;
  t.gathered = &result;
  t.mask = mask;
  if (orders_memory) publish(&t.arrive);
  unsigned& waiting = block->in_warp_op[first / kWarp];
  waiting |= 1u << lane();
  if ((waiting & all) != all) {
    suspend(Wait::kTheWarp, where);
  } else {  // the last to arrive serves everyone
    waiting &= ~all;
    t.where = where;
    result.mask = all;
    for (unsigned rest = all; rest; rest &= rest - 1) {
      const int l = std::countr_zero(rest);
      Thread& other = thread[first + l];
      if (other.mask != mask || !(other.where == where))
        fail("one warp meets at " + other.where.text() + ", " + where.text() + ", or with other masks");
      const Unrecorded copying;
      result.value[l] = *static_cast<const T*>(other.brought);
      if (orders_memory) observe(&other.arrive);
    }
    for (unsigned rest = all; rest; rest &= rest - 1) {
      Thread& other = thread[first + std::countr_zero(rest)];
      const Unrecorded copying;
      if (&other != &t) *static_cast<Lanes<T>*>(other.gathered) = result;
      other.wait = Wait::kNothing;
      if (orders_memory) publish(&other.leave);
    }
  }
  if (orders_memory) observe(&t.leave);
  return result;
}

// ---- one block after another -------------------------------------------------------------------------
[[noreturn]] inline void fail_stuck() {
  static const char* const doing[] = {
      " ready", " at barrier ", " in warp operation ", " at named barrier ", " at mbarrier ", " returned"};
  std::string s = "simt: " + place() + " cannot go on:";
  for (int i = 0, end; i < block->threads; i = end) {
    const Thread& t = thread[i];
    const auto same = [&t](const Thread& o) { return o.wait == t.wait && o.where == t.where; };
    for (end = i + 1; end < block->threads && same(thread[end]);) ++end;
    s += (i ? "; threads " : " threads ") + text(i) + "-" + text(end - 1);
    s += doing[static_cast<int>(t.wait)] + (t.where.line ? t.where.text() : "");
  }
  throw Error(s);
}

SIMT_UNSEEN inline bool run_warp(const int* first, const int* last) {  // as far as it gets on its own
  bool progress = false;
  for (bool again = true; again;) {
    again = false;
    for (const int* i = first; i != last; ++i) {
      if (thread[*i].wait != Wait::kNothing) continue;
      resume(*i);
      again = progress = true;
      if (!block->failed) continue;
      observe(&block->end);
      std::rethrow_exception(block->error);
    }
  }
  return progress;
}

SIMT_UNSEEN inline void run_block() {
  Block& b = *block;
  const int* const end = b.order + b.threads;
  b.running = b.threads;
  if (b.shared_bytes) std::memset(b.shared, 0xff, b.shared_bytes);  // NaN in every float format
  for (int i = 0; i < b.threads; ++i) thread[i].wait = Wait::kNothing;
  publish(&b.begin);
  while (b.running > 0) {
    bool progress = false;
    for (const int* i = b.order; i < end; i += kWarp) progress |= run_warp(i, std::min(i + kWarp, end));
    if (b.at_barrier == b.threads) {
      for (int i = 0; i < b.threads; ++i)
        if (!(thread[i].where == thread[0].where)) fail_stuck();
      for (int i = 0; i < b.threads; ++i) thread[i].wait = Wait::kNothing;
      b.at_barrier = 0;
      ++b.barriers;
    } else if (!progress) {
      fail_stuck();
    }
  }
  observe(&b.end);
  for (NamedBarrier& barrier : b.named) {
    if (barrier.arrived > 0) fail_stuck();
    barrier = {};
  }
  if (b.tensor_copy_count > 0)
    throw Error("simt: " + place() + " ended with tensor copies that nobody waited for");
}

inline void shuffle_turns(std::vector<int>& order, std::mt19937& random) {  // lanes within warps, and warps
  const int n = static_cast<int>(order.size());
  for (int i = 0; i < n; i += kWarp)
    std::shuffle(order.begin() + i, order.begin() + std::min(n, i + kWarp), random);
  if (n % kWarp != 0) return;
  const auto warps = static_cast<uint32_t>(n / kWarp);
  std::rotate(order.begin(), order.begin() + static_cast<int>(random() % warps) * kWarp, order.end());
}

SIMT_UNSEEN inline void run_grid(const Kernel& kernel, dim3 grid, dim3 threads, size_t shared_bytes) {
  const int n = static_cast<int>(threads.x * threads.y * threads.z);
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  if (block) fail("a launch during another");
  if (n < 1 || n > kMaxThreads) fail("a block cannot have " + text(n) + " threads");
  if (blocks < 1 || std::max(grid.y, grid.z) > 65535) fail("a grid cannot have " + text(blocks) + " blocks");
  if (shared_bytes > kMaxSharedBytes)
    fail("a block cannot have " + text(static_cast<int64_t>(shared_bytes)) + " shared bytes");

  const std::unique_ptr<char[]> shared(new char[shared_bytes]);
  std::mt19937 random(schedule.seed);
  std::vector<int> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  int64_t start = 0, stride = 1;  // blocks in the order start, start + stride, ... around the grid
  if (schedule.order == Order::kReverse) {
    std::reverse(order.begin(), order.end());
    start = stride = blocks - 1;
  } else if (schedule.order == Order::kShuffled) {
    start = static_cast<int64_t>(random() % static_cast<uint64_t>(blocks));
    do stride = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(blocks));
    while (std::gcd(stride, blocks) != 1);
  }

  Block b;
  b.kernel = &kernel, b.order = order.data(), b.threads = n;
  b.shared = shared.get(), b.shared_bytes = shared_bytes;
  gridDim = grid, blockDim = threads;
  SIMT_TSAN(host.tsan = __tsan_get_current_fiber();)
  for (int i = 0; i < n; ++i)
    if (!thread[i].top) make_fiber(thread[i], i, thread_main);
  block = &b;
  try {
    for (int64_t k = 0, i = start; k < blocks; ++k, i = (i + stride) % blocks) {
      blockIdx = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
      if (schedule.order == Order::kShuffled) shuffle_turns(order, random);
      run_block();
    }
  } catch (...) {  // threads may be anywhere: the next launch makes new ones
    for (int i = 0; i < n; ++i) drop_fiber(thread[i], host);
    for (int i = 0; i < n; ++i) thread[i] = Thread{};
    block = nullptr;
    throw;
  }
  block = nullptr;
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 threads, size_t shared_bytes, const A&... args) {
  run_grid([&] { kernel(args...); }, grid, threads, shared_bytes);
}

}  // namespace simt
