#include "experiments/program/messages.h"

#include <fmt/format.h>

#include <cmath>
#include <ostream>

namespace eep {
namespace {

constexpr double kPlainPeriod = 10;  // seconds between lines where there is no terminal
constexpr double kBarPeriod = 0.1;
constexpr double kBrief = 1;  // seconds: the end of such work is not worth a line

// Names of files and options may hold anything; an error stays one line.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

std::string duration_text(double seconds) {
  const int64_t whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

Messages::Messages(std::ostream& err, bool terminal, const std::string& level)
    : err_(err),
      terminal_(terminal),
      level_(level == "error"  ? 0
             : level == "warn" ? 1
             : level == "info" ? 2
                               : 3) {}

void Messages::line(const std::string& text, const char* colour, bool shown) {
  finish_progress();
  if (shown)
    err_ << (terminal_ ? colour : "") << text << (terminal_ && *colour ? "\033[0m" : "") << std::endl;
  if (log_.is_open()) log_ << text << std::endl;
}

void Messages::info(const std::string& text) { line(text, "", level_ >= 2); }
void Messages::warn(const std::string& text) { line("eep: warning: " + text, "\033[33m", level_ >= 1); }
void Messages::error(const Error& error) {
  line("eep: error: " + one_line(error.what()), "\033[31m", true);
  if (!error.hint().empty()) line("eep: hint: " + one_line(error.hint()), "", true);
}

void Messages::log_to(const std::string& file) {
  log_.open(file, std::ios::app);
  if (!log_) throw Error(ExitCode::kIo, file, "cannot write");
}

void Messages::progress(const std::string& what, int64_t done, int64_t total, const std::string& detail) {
  tell(what, done, total, detail, 0);
}

void Messages::brief_progress(const std::string& what, int64_t done, int64_t total, const std::string& unit) {
  tell(what, done, total, unit, kBrief);
}

// quiet: seconds within which an end is not told.
void Messages::tell(const std::string& what, int64_t done, int64_t total, const std::string& detail,
                    double quiet) {
  const auto now = std::chrono::steady_clock::now();
  const auto since = [&](std::chrono::steady_clock::time_point then) {
    return std::chrono::duration<double>(now - then).count();
  };
  if (what != what_ || done < last_done_) {
    what_ = what;
    start_ = last_ = last_logged_ = now;
    first_done_ = done;
  }
  last_done_ = done;
  const double seconds = since(start_);
  const bool over = done >= total && seconds >= quiet;
  if (!over && since(last_) < (terminal_ ? kBarPeriod : kPlainPeriod)) return;
  last_ = now;
  const double rate = seconds > 0 ? static_cast<double>(done - first_done_) / seconds : 0;
  std::string text = fmt::format("{} {}/{}", what, done, total);
  if (rate > 0)
    text += fmt::format(", {:.1f}/s, {} left", rate, duration_text(static_cast<double>(total - done) / rate));
  text += ", " + detail;
  if (log_.is_open() && (over || since(last_logged_) >= kPlainPeriod)) {
    last_logged_ = now;
    log_ << text << std::endl;
  }
  if (level_ < 2) return;
  if (!terminal_) {
    err_ << text << std::endl;
    return;
  }
  const int width = 24, filled = total > 0 ? static_cast<int>(done * width / total) : 0;
  err_ << "\r\033[K[" << std::string(static_cast<size_t>(filled), '=')
       << std::string(static_cast<size_t>(width - filled), ' ') << "] " << text << std::flush;
  moving_ = true;
}

void Messages::byte_progress(const std::string& what, size_t done, size_t total) {
  const size_t whole = (total >> 20) + ((total & 0xfffff) != 0);  // reached by the last byte alone
  brief_progress(what, static_cast<int64_t>(done < total ? done >> 20 : whole), static_cast<int64_t>(whole),
                 "MiB");
}

void Messages::finish_progress() {
  if (moving_) err_ << std::endl;
  moving_ = false;
}

}  // namespace eep
