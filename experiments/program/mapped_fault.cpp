#include "experiments/program/mapped_fault.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "kernels/common/error.h"

namespace eep {
namespace {

// Only system calls and this stack: the handler interrupts anything.
constexpr size_t kLine = 4608;  // a path of PATH_MAX bytes and what stands before it

void put(const char* text, size_t size) {
  while (size > 0) {
    const ssize_t count = ::write(STDERR_FILENO, text, size);
    if (count <= 0) return;
    text += count;
    size -= static_cast<size_t>(count);
  }
}
void put(const char* text) { put(text, std::strlen(text)); }

uintptr_t hexadecimal(const char*& at) {
  uintptr_t value = 0;
  for (;; ++at) {
    const char c = *at;
    if (c >= '0' && c <= '9') {
      value = value * 16 + static_cast<uintptr_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = value * 16 + static_cast<uintptr_t>(c - 'a' + 10);
    } else {
      return value;
    }
  }
}

// A line of /proc/self/maps, "begin-end rights offset device inode path": the path if `address` lies inside.
const char* path_in(const char* line, uintptr_t address) {
  const uintptr_t begin = hexadecimal(line);
  if (*line++ != '-') return nullptr;
  const uintptr_t end = hexadecimal(line);
  if (address < begin || address >= end) return nullptr;
  const char* slash = std::strchr(line, '/');
  return slash == nullptr ? "" : slash;
}

// Says whose memory `address` is.
void put_file(uintptr_t address) {
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  char line[kLine];
  size_t filled = 0;
  char byte;
  while (maps >= 0 && ::read(maps, &byte, 1) == 1) {
    if (byte != '\n') {
      if (filled + 1 < sizeof line) line[filled++] = byte;
      continue;
    }
    line[filled] = '\0';
    filled = 0;
    const char* const path = path_in(line, address);
    if (path != nullptr && *path != '\0') return put(path);
  }
  put("a mapped file");
}

extern "C" void on_bus_error(int, siginfo_t* info, void*) {
  put("eep: error: ");
  put_file(reinterpret_cast<uintptr_t>(info->si_addr));
  put(": cannot read: the disk failed, or the file was cut short while in use\n");
  _exit(static_cast<int>(ExitCode::kIo));
}

}  // namespace

void report_mapped_faults() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = static_cast<int>(SA_SIGINFO | SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace eep
