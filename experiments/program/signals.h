// Ctrl-C, batch systems, closed terminals: INT, TERM, HUP, USR1 and USR2 ask the run to stop at the next
// checkpoint; a second INT or TERM ends the process at once with 130. HUP, USR1 and USR2 stay ignored where
// they were.
#pragma once

#include <atomic>

namespace eep {

class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  const std::atomic<bool>& requested() const;
};

}  // namespace eep
