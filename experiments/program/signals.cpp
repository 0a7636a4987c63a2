#include "experiments/program/signals.h"

#include <unistd.h>

#include <csignal>
#include <iterator>

namespace eep {
namespace {

// A signal handler can reach nothing else.
std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

std::atomic<bool> g_asked{false};  // by INT or TERM

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
void (*g_before[std::size(kSignals)])(int);

// A batch system warns by USR1 or USR2 as often as it likes; who asks twice by INT or TERM means now.
extern "C" void on_signal(int number) {
  g_stop = true;
  if (number != SIGINT && number != SIGTERM) return;
  if (g_asked.exchange(true)) _exit(130);
}

}  // namespace

StopSignal::StopSignal() {
  g_stop = false;
  g_asked = false;
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    g_before[i] = std::signal(kSignals[i], on_signal);
    if (g_before[i] == SIG_IGN && kSignals[i] != SIGINT && kSignals[i] != SIGTERM)
      std::signal(kSignals[i], SIG_IGN);  // nohup
  }
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    if (g_before[i] != SIG_ERR) std::signal(kSignals[i], g_before[i]);
  }
}

const std::atomic<bool>& StopSignal::requested() const { return g_stop; }

}  // namespace eep
