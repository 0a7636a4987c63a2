// MappedFile: a whole regular file as read-only memory; pages come from the page cache on first touch.
#include "kernels/common/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/common/error.h"

namespace eep {

void check_file_name(const std::string& path) {
  if (path.find('\0') == std::string::npos) return;
  throw Error(ExitCode::kNoInput, path.c_str(), "followed by a NUL character: no file has such a name");
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  check_file_name(path);
  const int descriptor =
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block here
  if (descriptor < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    throw Error(missing ? ExitCode::kNoInput : ExitCode::kIo, path,
                std::string("cannot open: ") + std::strerror(errno));
  }
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw Error(ExitCode::kIo, path, "not a regular file");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {  // mmap refuses empty files
    void* pages = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
    if (pages == MAP_FAILED) {
      const int reason = errno;
      ::close(descriptor);
      throw Error(ExitCode::kIo, path, std::string("cannot map: ") + std::strerror(reason));
    }
    data_ = static_cast<const uint8_t*>(pages);
  }
  ::close(descriptor);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace eep
