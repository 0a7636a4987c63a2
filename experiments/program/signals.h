// Ctrl-C: the first SIGINT or SIGTERM asks the run to stop at the next checkpoint, the second ends the
// process at once with 130.
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
