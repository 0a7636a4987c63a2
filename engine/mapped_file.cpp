// A file mapped read-only.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/raw_model.h"
#include "kernels/error.h"

namespace eep {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    throw Error(missing ? ExitCode::kNoInput : ExitCode::kIo, path,
                std::string("cannot open: ") + std::strerror(errno));
  }
  const auto refuse = [&](const char* what) {
    const std::string reason = std::strerror(errno);
    ::close(file);
    throw Error(ExitCode::kIo, path, std::string(what) + ": " + reason);
  };
  struct stat status {};
  if (::fstat(file, &status) != 0) refuse("cannot read the size");
  if (!S_ISREG(status.st_mode)) {
    ::close(file);
    throw Error(ExitCode::kIo, path, "not a regular file");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) refuse("cannot map");
    data_ = static_cast<const uint8_t*>(data);
  }
  ::close(file);
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
