// What the program says to people: lines on stderr (and in a run's log), one progress line on a terminal,
// plain periodic lines elsewhere.
#pragma once

#include <chrono>
#include <fstream>
#include <iosfwd>
#include <string>

#include "kernels/common/error.h"

namespace eep {

class Messages {
 public:
  // Colours and the moving line only if `terminal` (stderr is one and NO_COLOR is not set).
  Messages(std::ostream& err, bool terminal, const std::string& level);

  void info(const std::string& text);
  void warn(const std::string& text);
  void error(const Error& error);
  // Everything said from now on is also written there, without colours.
  void log_to(const std::string& file);

  // Progress of a named piece of work, with its rate and the time that is left; a new name, or less done than
  // before, starts a new clock.
  void progress(const std::string& what, int64_t done, int64_t total, const std::string& detail);
  // The same of work that is often brief: nothing is said of what is over within a second.
  void brief_progress(const std::string& what, int64_t done, int64_t total, const std::string& unit);
  // The same for amounts of bytes, shown in MiB.
  void byte_progress(const std::string& what, size_t done, size_t total);
  void finish_progress();

 private:
  void line(const std::string& text, const char* colour, bool shown);
  void tell(const std::string& what, int64_t done, int64_t total, const std::string& detail, double quiet);

  std::ostream& err_;
  bool terminal_;
  int level_;
  std::ofstream log_;
  std::string what_;
  std::chrono::steady_clock::time_point start_, last_, last_logged_;
  int64_t first_done_ = 0, last_done_ = 0;
  bool moving_ = false;
};

// "1:05", "2:03:04"
std::string duration_text(double seconds);

}  // namespace eep
