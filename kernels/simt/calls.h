// simt/calls.h - what the host has asked a device for, so that tests can count it.
#pragma once

#include <cstdint>

namespace simt {

struct Calls {
  int64_t launches = 0;
  int64_t copies = 0;  // to, from and within the device; an op's tables are one
  int64_t events = 0;  // recorded or waited for
  int64_t all() const { return launches + copies + events; }
};
inline Calls calls;

}  // namespace simt
