#include "experiments/program/signals.h"

#include <unistd.h>

#include <csignal>

namespace eep {
namespace {

// A signal handler can reach nothing else.
std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_signal(int) {
  if (g_stop.exchange(true)) _exit(130);
}

}  // namespace

StopSignal::StopSignal() {
  g_stop = false;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

StopSignal::~StopSignal() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

const std::atomic<bool>& StopSignal::requested() const { return g_stop; }

}  // namespace eep
