// How a run talks. It is stopped by kernels/common/interrupt.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace eep {

struct RunHooks {
  std::function<void(const std::string&)> say;   // a line for people
  std::function<void(const std::string&)> warn;  // one that they should not miss
  // Of the search.
  std::function<void(const std::string& what, int64_t done, int64_t total, const std::string& best)> progress;
  // Of all else: amounts of work, which may be brief, and of bytes.
  std::function<void(const std::string& what, int64_t done, int64_t total, const std::string& unit)> work;
  std::function<void(const std::string& what, size_t done, size_t total)> bytes;
  int ranks = 1;  // that compute
};

}  // namespace eep
