// FlushDenormals: while it lives, f32 arithmetic of the calling thread reads and writes denormal numbers as
// zeros (FTZ and DAZ of x86, FZ of Arm). An instruction that multiplies tiles does so whatever the thread
// wants; whoever computes the same sums with vectors needs this.
//
// Code whose arithmetic is meant has to be a function that is not inlined where the object lives: to the
// compiler nothing ties arithmetic to the control register.
//
// Arm sees before rounding what is below the least normal number, x86 after it: a result within half a unit
// below 2^-126 is a zero there and 2^-126 here. Other processors keep their denormal numbers.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace eep {

class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(static_cast<unsigned>(before_) | kFlush); }
  ~FlushDenormals() { _mm_setcsr(static_cast<unsigned>(before_)); }
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | kFlush) : "memory");
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before_) : "memory"); }
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned kFlush = 0x8040;  // flush to zero, denormals are zeros
#else
  static constexpr uint64_t kFlush = uint64_t{1} << 24;
#endif
  uint64_t before_ = 0;
};

}  // namespace eep
