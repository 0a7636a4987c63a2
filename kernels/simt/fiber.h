// fiber.h - stacks, the switch between them, and what the sanitizers have to be told about both.
//
// ASan is told which stack is in use. TSan takes every fiber for a thread of its own, and a switch orders
// nothing: the only happens-before edges are those that the code above makes with publish() and observe().
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <stdexcept>

#ifdef __has_feature
#define SIMT_HAS(sanitizer) __has_feature(sanitizer)
#else
#define SIMT_HAS(sanitizer) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || SIMT_HAS(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIMT_ASAN(...) __VA_ARGS__
#else
#define SIMT_ASAN(...)
#endif
#if defined(__SANITIZE_THREAD__) || SIMT_HAS(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreReadsBegin(const char*, int), AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int), AnnotateIgnoreWritesEnd(const char*, int);
#define SIMT_TSAN(...) __VA_ARGS__
#else
#define SIMT_TSAN(...)
#endif
// For the scheduler: its own state is no race, and its frames are not on a fake stack that a fiber drops.
#define SIMT_UNSEEN __attribute__((no_sanitize("thread"), no_sanitize("address")))

// Saves the callee-saved registers on the running stack, stores its top in *from, continues at `to`.
extern "C" void simt_switch(void** from, void* to);
asm(R"(
.ifndef simt_switch
.pushsection .text.simt_switch,"axG",%progbits,simt_switch,comdat
.weak simt_switch
.type simt_switch,%function
simt_switch:
)"
#if defined(__x86_64__)
    R"(pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
)"
#elif defined(__aarch64__)
    R"(sub sp, sp, #160
  stp x19, x20, [sp]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]; stp x29, x30, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]; mov x9, sp; str x9, [x0]; mov sp, x1
  ldp x19, x20, [sp]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]; ldp x29, x30, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]; add sp, sp, #160
)"
#else
#error "fiber.h has a context switch for x86-64 and aarch64 only"
#endif
    "ret\n.size simt_switch,.-simt_switch\n.popsection\n.endif\n");

namespace simt {

constexpr int kMaxThreads = 1024;
constexpr size_t kStackBytes = 64 << 10 SIMT_ASAN(<< 2);

struct Fiber {
  void* top = nullptr;          // of its stack, where it was left
  const void* stack = nullptr;  // lowest address
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // ASan's frames for use-after-return
  void* tsan = nullptr;
};

// What happened before publish(edge) happened before whatever follows observe(edge).
inline void publish([[maybe_unused]] void* edge) { SIMT_TSAN(__tsan_release(edge);) }
inline void observe([[maybe_unused]] void* edge) { SIMT_TSAN(__tsan_acquire(edge);) }

struct Unrecorded {  // accesses in its scope are none of TSan's business
  Unrecorded() { SIMT_TSAN(AnnotateIgnoreReadsBegin("", 0); AnnotateIgnoreWritesBegin("", 0);) }
  ~Unrecorded() { SIMT_TSAN(AnnotateIgnoreWritesEnd("", 0); AnnotateIgnoreReadsEnd("", 0);) }
};

// Leaves `from` for `to`. With `last`, `from` will not need the frames that it has now.
SIMT_UNSEEN inline void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool last = false) {
  SIMT_ASAN(__sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);)
  SIMT_TSAN(__tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);)
  simt_switch(&from.top, to.top);
  SIMT_ASAN(__sanitizer_finish_switch_fiber(last ? nullptr : from.fake_stack, &to.stack, &to.stack_bytes);)
}

// The first thing a new fiber does; `from` is the one that started it.
SIMT_UNSEEN inline void enter_fiber([[maybe_unused]] Fiber& from) {
  SIMT_ASAN(__sanitizer_finish_switch_fiber(nullptr, &from.stack, &from.stack_bytes);)
}

inline char* stack_of(int fiber) {  // below each stack lies a page that faults
  static const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), pitch = kStackBytes + page;
  static char* const stacks = [] {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* const all = mmap(nullptr, kMaxThreads * pitch, PROT_NONE, flags, -1, 0);
    if (all == MAP_FAILED) throw std::runtime_error("simt: no memory for the stacks");
    for (size_t i = 0; i < kMaxThreads; ++i)
      mprotect(static_cast<char*>(all) + i * pitch + page, kStackBytes, PROT_READ | PROT_WRITE);
    return static_cast<char*>(all);
  }();
  return stacks + static_cast<size_t>(fiber) * pitch + page;
}

// Makes `f` a suspended call of entry(), which never returns, on the stack number `fiber`.
inline void make_fiber(Fiber& f, int fiber, void (*entry)()) {
  char* const stack = stack_of(fiber);
  SIMT_ASAN(__asan_unpoison_memory_region(stack, kStackBytes);)
  char* const end = stack + kStackBytes - fiber % 64 * 64;  // equal tops would share cache sets
  void** top = reinterpret_cast<void**>(end);
#if defined(__x86_64__)
  *--top = nullptr;  // entry()'s return address; aligns the stack as a call does
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
#else
  for (int saved = 0; saved < 20; ++saved) *--top = nullptr;
  top[11] = reinterpret_cast<void*>(entry);  // x30
#endif
  f = {top, stack, kStackBytes, nullptr, nullptr};
  SIMT_TSAN(f.tsan = __tsan_create_fiber(0);)
}

// Gives up a fiber wherever it is; all that it did happened before what `host`, the running one, does next.
SIMT_UNSEEN inline void drop_fiber([[maybe_unused]] Fiber& f, [[maybe_unused]] Fiber& host) {
  SIMT_TSAN(__tsan_switch_to_fiber(f.tsan, __tsan_switch_to_fiber_no_sync);)
  SIMT_TSAN(__tsan_switch_to_fiber(host.tsan, 0); __tsan_destroy_fiber(f.tsan);)
}

}  // namespace simt
