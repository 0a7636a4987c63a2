#include "experiments/program/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "kernels/common/interrupt.h"

namespace eep {
namespace {

constexpr int kExitCode = 130;
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

std::atomic<bool> g_working{false};

std::atomic<bool> g_asked{false};  // by any of them

// A batch system warns by USR1 or USR2 as often as it likes; who asks once more by INT or TERM means now.
extern "C" void on_signal(int number) {
  const bool again = g_asked.exchange(true);
  if (!g_working.load() || (again && (number == SIGINT || number == SIGTERM))) {
    constexpr char kLine[] = "interrupted\n";  // what a stopped command says
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kLine, sizeof kLine - 1);
    _exit(kExitCode);
  }
  request_interrupt();
}

sigset_t signal_set() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kSignals) sigaddset(&set, signal);
  return set;
}

}  // namespace

void hold_signals() {
  const sigset_t set = signal_set();
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

void catch_signals() {
  for (const int signal : kSignals) {
    struct sigaction before {};
    if (signal != SIGINT && signal != SIGTERM && ::sigaction(signal, nullptr, &before) == 0 &&
        before.sa_handler == SIG_IGN)
      continue;
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    ::sigaction(signal, &action, nullptr);
  }
  const sigset_t set = signal_set();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

StopSignal::StopSignal() { g_working = true; }
StopSignal::~StopSignal() { g_working = false; }

}  // namespace eep
