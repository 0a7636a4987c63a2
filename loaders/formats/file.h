// Whole files in and out. Reads are bounded; writes are atomic: a temporary in the same directory, synced,
// renamed over the target, the directory synced. A failed or killed write leaves the old file as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace eep {

inline constexpr size_t kMaxTextFile = size_t{1} << 30;

bool file_exists(const std::string& path);       // a regular file, or a link to one
bool directory_exists(const std::string& path);  // a directory, or a link to one
// Something of that name, whatever it is: a directory or a link that leads nowhere is there, and opening it
// tells what is wrong.
bool is_there(const std::string& path);
// A file or directory that was not found: kNoInput and `what`, or kIo and the system's reason if it could not
// be looked for.
[[noreturn]] void fail_missing(const std::string& path, const std::string& what,
                               const std::string& hint = {});
std::string join_path(const std::string& directory, const std::string& name);

// Throws kIo now if a file of that name could not be written later: before the work whose result it holds.
void require_writable(const std::string& path);

// A file of another kind than the one that is read, by its first bytes: what it is, and what to do about it.
struct ForeignFile {
  std::string what, hint;  // "" where it is none that is known
};
ForeignFile foreign_file(std::string_view begin);

// The whole file. Throws kNoInput if it is missing, kIo if it cannot be read (a named pipe that nothing is
// written to included), kData if it is larger than max_bytes or a pointer of Git LFS.
std::string read_file(const std::string& path, size_t max_bytes = kMaxTextFile);

void write_file_atomic(const std::string& path,
                       std::string_view bytes);  // throws kIo with the system's reason

// Appends to a file that is there, and syncs it. A killed write may leave a part of the bytes: for files
// whose records tell that they are whole.
void append_file(const std::string& path, std::string_view bytes);  // throws kIo with the system's reason

// write_file_atomic in parts: write(), write(), commit(). Without commit() the destructor removes the
// temporary.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* data, size_t bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* action);

  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace eep
