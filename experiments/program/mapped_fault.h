// Model files are mapped: a disk that cannot be read, or a file cut short while in use, shows as SIGBUS where
// the memory is touched. The process then says which file it was and ends with the exit code of a read error.
#pragma once

namespace eep {

void report_mapped_faults();  // from now on, for the whole process

}  // namespace eep
