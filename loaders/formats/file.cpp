// Files through the system's own calls, so that every failure keeps its reason (disk full, permission).
#include "loaders/formats/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/mapped_file.h"

namespace eep {

namespace {

constexpr int kPipeMilliseconds = 10000;

struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// The file a link leads to, so that writing through a link keeps the link.
std::string resolve_link(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  char* real = ::realpath(path.c_str(), nullptr);
  if (real == nullptr) return path;
  std::string resolved = real;
  std::free(real);
  return resolved;
}

// A named pipe without a writer would be waited for for ever: the descriptor does not block until there is
// something to read.
void await_pipe(int descriptor, const std::string& path) {
  pollfd wait{descriptor, POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&wait, 1, kPipeMilliseconds);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) throw Error(ExitCode::kIo, path, "cannot read: a pipe that nothing is written to");
}

bool is_device_or_pipe(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

}  // namespace

bool file_exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

bool directory_exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_there(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

void fail_missing(const std::string& path, const std::string& what, const std::string& hint) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 && errno != ENOENT && errno != ENOTDIR) {
    throw Error(ExitCode::kIo, path, std::string("cannot open: ") + std::strerror(errno));
  }
  throw Error(ExitCode::kNoInput, path, what, hint);
}

std::string join_path(const std::string& directory, const std::string& name) {
  if (directory.empty() || (!name.empty() && name.front() == '/')) return name;
  return directory.back() == '/' ? directory + name : directory + "/" + name;
}

void require_writable(const std::string& path) {
  const std::string file = resolve_link(path), directory = directory_of(file);
  const auto fail = [&](const std::string& reason) {
    throw Error(ExitCode::kIo, path, "cannot write: " + reason);
  };
  if (directory_exists(file)) fail("is a directory");
  if (!directory_exists(directory)) fail("no directory " + directory);
  const bool device = is_device_or_pipe(file);
  if (::access(device ? file.c_str() : directory.c_str(), W_OK) != 0) fail(std::strerror(errno));
}

ForeignFile foreign_file(std::string_view begin) {
  using namespace std::string_view_literals;
  if (begin.starts_with("version https://git-lfs.github.com/spec/"))
    return {"a Git LFS pointer in place of the file itself", "fetch the files: git lfs pull"};
  if (begin.starts_with("GGUF")) return {"a GGUF file", "convert it: eep convert FILE.gguf --out DIR"};
  if (begin.starts_with("PK\x03\x04")) return {"a zip archive (a PyTorch file?)", "save as safetensors"};
  if (begin.starts_with("\x89HDF")) return {"an HDF5 file", "save as safetensors"};
  if (begin.starts_with("PAR1")) return {"a Parquet file", "write it as JSON Lines"};
  if (begin.starts_with("\xff\xfe"sv) || begin.starts_with("\xfe\xff"sv))
    return {"a text in UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8"};
  if (begin.starts_with("\x1f\x8b")) return {"a gzip file", "unpack it: gzip -d"};
  if (begin.starts_with("<!DOCTYPE"sv) || begin.starts_with("<!doctype"sv) || begin.starts_with("<html"sv))
    return {"a web page", "download the file itself, not the page about it"};
  return {};
}

std::string read_file(const std::string& path, size_t max_bytes) {
  check_file_name(path);
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    throw Error(missing ? ExitCode::kNoInput : ExitCode::kIo, path,
                std::string("cannot open: ") + std::strerror(errno));
  }
  const auto too_large = [&](const std::string& got) {
    return "file too large" + expected_got("at most " + std::to_string(max_bytes) + " bytes", got);
  };
  struct stat status {};
  std::string text;
  if (::fstat(file.value, &status) == 0 && S_ISREG(status.st_mode)) {
    const size_t size = static_cast<size_t>(status.st_size);
    if (size > max_bytes) throw Error(ExitCode::kData, path, too_large(std::to_string(size)));
    text.reserve(size + 1);
  } else if (S_ISFIFO(status.st_mode)) {
    await_pipe(file.value, path);
  }
  ::fcntl(file.value, F_SETFL, ::fcntl(file.value, F_GETFL) & ~O_NONBLOCK);
  char block[1 << 16];
  for (;;) {
    const ssize_t count = ::read(file.value, block, sizeof(block));
    if (count == 0) {
      const ForeignFile foreign = foreign_file(text);
      if (!foreign.what.empty()) throw Error(ExitCode::kData, path, foreign.what, foreign.hint);
      return text;
    }
    if (count < 0) {
      if (errno == EINTR) continue;
      throw Error(ExitCode::kIo, path, std::string("cannot read: ") + std::strerror(errno));
    }
    if (text.size() + static_cast<size_t>(count) > max_bytes) {
      throw Error(ExitCode::kData, path, too_large("more"));
    }
    text.append(block, static_cast<size_t>(count));
  }
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

void append_file(const std::string& path, std::string_view bytes) {
  const auto fail = [&] {
    throw Error(ExitCode::kIo, path, std::string("cannot write: ") + std::strerror(errno));
  };
  const Descriptor file{::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC)};
  if (file.value < 0) fail();
  while (!bytes.empty()) {
    const ssize_t count = ::write(file.value, bytes.data(), std::min(bytes.size(), size_t{1} << 30));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail();
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  if (::fsync(file.value) != 0 && errno != EINVAL) fail();
}

AtomicFile::AtomicFile(std::string path) : path_(resolve_link(path)) {
  if (is_device_or_pipe(path_)) {  // /dev/stdout: nothing to rename over
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail("cannot open");
    return;
  }
  if (directory_exists(path_)) {
    errno = EISDIR;
    fail("cannot write");
  }
  // A name of our own: two processes that write one file must not share a temporary.
  for (int attempt = 0; descriptor_ < 0; ++attempt) {
    temporary_ = path_ + ".tmp." + std::to_string(::getpid()) + "." + std::to_string(attempt);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && (errno != EEXIST || attempt == 1000)) {
      temporary_.clear();
      fail("cannot write");
    }
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t count = ::write(descriptor_, next, std::min(bytes, size_t{1} << 30));
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("cannot write");
    }
    next += count;
    bytes -= static_cast<size_t>(count);
  }
}

void AtomicFile::commit() {
  const bool device = temporary_.empty();
  if (!device && ::fsync(descriptor_) != 0 && errno != EINVAL) fail("cannot write");
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0) fail("cannot write");
  if (device) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot write");
  temporary_.clear();
  const Descriptor directory{::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.value >= 0) ::fsync(directory.value);  // the rename survives a power cut
}

void AtomicFile::fail(const char* action) {
  throw Error(ExitCode::kIo, path_, std::string(action) + ": " + std::strerror(errno));
}

}  // namespace eep
