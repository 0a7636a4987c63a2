// A request to stop, of the whole process: a signal makes it, or another rank of the run. Who works in a loop
// looks at it where a piece of work ends, so that none lasts longer than one chunk or layer. Never within a
// parallel region: it throws.
#pragma once

#include <atomic>

namespace eep {

// Thrown between pieces of work after request_interrupt(): what a run keeps is on disk.
struct Interrupted {};

void request_interrupt() noexcept;  // a signal handler may call it
void forget_interrupt() noexcept;   // for tests
bool interrupt_requested() noexcept;
const std::atomic<bool>& interrupt_flag() noexcept;
void check_interrupted();  // throws Interrupted

}  // namespace eep
