// A library for LD_PRELOAD that lets one call of a program fail which writes to a file: EEP_FAULT=KIND:N is
// the N-th of them, and KIND the errno's name, or "short" for a write that takes one byte. EEP_FAULT_LOG: a
// file that says which call it was.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<long> g_calls{0};

struct Fault {
  int code = 0;  // errno; -1: short
  long at = 0;
};

const Fault& fault() {
  static const Fault fault = [] {
    Fault read;
    const char* const text = std::getenv("EEP_FAULT");
    if (text == nullptr) return read;
    const char* const colon = std::strchr(text, ':');
    if (colon == nullptr) return read;
    read.at = std::strtol(colon + 1, nullptr, 10);
    const struct {
      const char* name;
      int code;
    } kinds[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"short", -1}};
    for (const auto& kind : kinds) {
      if (std::strncmp(text, kind.name, static_cast<size_t>(colon - text)) == 0) read.code = kind.code;
    }
    return read;
  }();
  return fault;
}

bool is_file(int descriptor) {
  struct stat status {};
  return descriptor > 2 && ::fstat(descriptor, &status) == 0 &&
         (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
}

template <typename Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

// Whether this call is the one.
bool strikes(const char* call) {
  if (fault().code == 0 || ++g_calls != fault().at) return false;
  if (const char* const log = std::getenv("EEP_FAULT_LOG")) {
    static const auto real_open = real<int (*)(const char*, int, ...)>("open");
    static const auto real_write = real<ssize_t (*)(int, const void*, size_t)>("write");
    const int file = real_open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file >= 0) {
      [[maybe_unused]] const ssize_t count = real_write(file, call, std::strlen(call));
      ::close(file);
    }
  }
  errno = fault().code;
  return true;
}

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* data, size_t bytes) {
  static const auto next = real<ssize_t (*)(int, const void*, size_t)>("write");
  if (!is_file(descriptor) || bytes == 0 || !strikes("write")) return next(descriptor, data, bytes);
  if (fault().code > 0) return -1;
  return next(descriptor, data, 1);
}

int fsync(int descriptor) {
  static const auto next = real<int (*)(int)>("fsync");
  // Of directories nobody asks how it went.
  struct stat status {};
  const bool counts = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  return counts && fault().code > 0 && strikes("fsync") ? -1 : next(descriptor);
}

int rename(const char* from, const char* to) noexcept {
  static const auto next = real<int (*)(const char*, const char*)>("rename");
  return fault().code > 0 && strikes("rename") ? -1 : next(from, to);
}

int truncate(const char* path, off_t length) noexcept {
  static const auto next = real<int (*)(const char*, off_t)>("truncate");
  return fault().code > 0 && strikes("truncate") ? -1 : next(path, length);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const auto next = real<int (*)(const char*, mode_t)>("mkdir");
  return fault().code > 0 && strikes("mkdir") ? -1 : next(path, mode);
}

}  // extern "C"
