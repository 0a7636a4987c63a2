// MappedFile: a whole regular file as read-only memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace eep {

// Throws Error(kNoInput) for a name with a NUL, which the system would cut there.
void check_file_name(const std::string& path);

// A file mapped read-only. Move-only.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);  // throws Error(kNoInput / kIo)
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

}  // namespace eep
