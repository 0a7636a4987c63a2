// The partial directory carries a marker file that is locked while a process writes there: only directories
// with the marker are ever cleared.
#include "loaders/models/export_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "kernels/common/error.h"

namespace eep {

namespace {

namespace fs = std::filesystem;

constexpr const char* kMarker = ".eep-partial";

[[noreturn]] void fail(const std::string& path, const std::string& action, const std::string& reason) {
  throw Error(ExitCode::kIo, path, action + ": " + reason);
}

void sync_directory(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

void require_new_directory(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path.empty()) throw Error(ExitCode::kUsage, "--out", "an empty name (expected a directory)");
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);  // a link cannot be renamed over
  if (fs::exists(status)) {
    if (!fs::is_directory(status))
      throw Error(ExitCode::kUsage, path, "is a file or a link (expected a new directory)");
    const bool empty = fs::is_empty(path, error);
    if (error) fail(path, "cannot read the directory", error.message());
    if (!empty) throw Error(ExitCode::kUsage, path, "directory is not empty (expected a new directory)");
  }
  // Missing parents are made later: the first one that is there must take a directory.
  fs::path parent = fs::path(path).parent_path();
  while (!parent.empty() && !fs::exists(parent, error)) parent = parent.parent_path();
  const std::string above = parent.empty() ? "." : parent.string();
  if (!fs::is_directory(above, error)) fail(path, "cannot create the directory", "no directory " + above);
  if (::access(above.c_str(), W_OK) != 0) fail(path, "cannot create the directory", std::strerror(errno));
}

ExportDirectory::ExportDirectory(std::string path) : path_(std::move(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  require_new_directory(path_);
  std::error_code error;
  partial_ = path_ + ".partial";
  const std::string marker = file(kMarker);
  if (fs::exists(partial_, error) && !fs::exists(marker, error) && !fs::is_empty(partial_, error)) {
    throw Error(ExitCode::kUsage, partial_, "is in the way and was not left by an earlier attempt",
                "remove it or choose another directory");
  }
  fs::create_directories(partial_, error);
  if (error) fail(partial_, "cannot create the directory", error.message());
  lock_ = ::open(marker.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) fail(marker, "cannot write", std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    throw Error(ExitCode::kRuntime, partial_, "another process is writing there");
  }
  clear(error);
  if (error) fail(partial_, "cannot remove what an earlier attempt left", error.message());
}

// Without the marker what is left would look like somebody else's: it goes last.
void ExportDirectory::clear(std::error_code& error) {
  for (const fs::directory_entry& entry : fs::directory_iterator(partial_, error)) {
    if (entry.path().filename() == kMarker) continue;
    fs::remove_all(entry.path(), error);
    if (error) return;
  }
}

ExportDirectory::~ExportDirectory() {
  if (!committed_) {
    std::error_code ignored;
    clear(ignored);
    fs::remove_all(partial_, ignored);
  }
  if (lock_ >= 0) ::close(lock_);
}

void ExportDirectory::commit() {
  sync_directory(partial_);
  if (::rename(partial_.c_str(), path_.c_str()) != 0) fail(path_, "cannot write", std::strerror(errno));
  committed_ = true;
  // After the name: killed in between, a finished export keeps an empty file that nobody reads.
  ::unlink((path_ + "/" + kMarker).c_str());
  sync_directory(path_);
  const std::string parent = fs::path(path_).parent_path().string();
  sync_directory(parent.empty() ? "." : parent);
}

}  // namespace eep
