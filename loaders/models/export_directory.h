// A directory that appears whole or not at all: everything is written to DIR.partial, which commit() renames.
// Whatever ends the work before that leaves no folder that looks complete; the next attempt clears the rest.
#pragma once

#include <string>
#include <system_error>

namespace eep {

// Throws Error(kUsage) if `path` is there and not an empty directory, Error(kIo) if it could not be made.
void require_new_directory(std::string path);

class ExportDirectory {
 public:
  // Throws Error(kUsage) if `path` is there and not empty, Error(kRuntime) if another process writes it,
  // Error(kIo) if the directory cannot be made. Missing parents are made.
  explicit ExportDirectory(std::string path);
  ExportDirectory(const ExportDirectory&) = delete;
  ExportDirectory& operator=(const ExportDirectory&) = delete;
  ~ExportDirectory();  // without commit(): removes what was written

  const std::string& path() const { return partial_; }  // where to write
  std::string file(const std::string& name) const { return partial_ + "/" + name; }
  void commit();

 private:
  void clear(std::error_code& error);  // all but the marker

  std::string path_, partial_;
  int lock_ = -1;
  bool committed_ = false;
};

}  // namespace eep
