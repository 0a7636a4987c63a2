// INT, TERM, HUP, USR1 and USR2 mean "checkpoint and leave": the first one asks the work to stop at its next
// checkpoint (kernels/common/interrupt.h), an INT or TERM behind it ends the process at once; both with 130.
// Before there is work that could be kept, the first ends it at once as well. HUP, USR1 and USR2 stay ignored
// where they were (nohup).
#pragma once

namespace eep {

// For main(): holds the signals back, also over exec, until catch_signals() installs the handlers.
void hold_signals();
void catch_signals();

// While one lives, there is work that keeps checkpoints.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
};

}  // namespace eep
