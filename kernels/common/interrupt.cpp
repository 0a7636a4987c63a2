#include "kernels/common/interrupt.h"

namespace eep {
namespace {

std::atomic<bool> g_interrupt{false};  // a signal handler can reach nothing else
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

void request_interrupt() noexcept { g_interrupt.store(true); }
void forget_interrupt() noexcept { g_interrupt.store(false); }
bool interrupt_requested() noexcept { return g_interrupt.load(std::memory_order_relaxed); }
const std::atomic<bool>& interrupt_flag() noexcept { return g_interrupt; }

void check_interrupted() {
  if (interrupt_requested()) throw Interrupted{};
}

}  // namespace eep
