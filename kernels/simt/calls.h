// simt/calls.h - what the host has asked a device for, and under which names, so that tests can see it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace simt {

struct Calls {
  int64_t launches = 0;
  int64_t copies = 0;  // to, from and within the device; an op's tables are one
  int64_t events = 0;  // recorded or waited for
  int64_t all() const { return launches + copies + events; }
};
inline Calls calls;

// Ranges of names (gpu/gpu_range.h).
struct Ranges {
  std::vector<std::string> open;  // outermost first
  bool noting = false;
  std::vector<std::vector<std::string>> launches;  // while noting: what was open at each, its op last
};
inline Ranges ranges;

}  // namespace simt
