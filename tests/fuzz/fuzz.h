// What every fuzzer shares: bad input may only end in an eep::Error of one line with an exit code for bad
// input.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "kernels/common/error.h"

namespace fuzz {

inline void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

inline std::string text_of(const uint8_t* data, size_t size) {
  return std::string(reinterpret_cast<const char*>(data), size);
}

// Runs `parse`; true when it returned, false when it refused its input as it should.
template <typename Parse>
bool accepts(const Parse& parse) {
  try {
    parse();
    return true;
  } catch (const eep::Error& error) {
    const std::string_view message = error.what();
    demand(!message.empty() && message.size() < 4096, "an error message is empty or endless");
    demand(message.find('\n') == std::string_view::npos, "an error message has several lines");
    demand(error.code() == eep::ExitCode::kData || error.code() == eep::ExitCode::kConfig ||
               error.code() == eep::ExitCode::kNoInput,
           "an error on bad input has another exit code");
    return false;
  }
}

// A scratch directory of this process, removed at its end.
class Scratch {
 public:
  // With links to the files of a golden checkpoint, one of them left out.
  Scratch(const std::string& checkpoint, const std::string& without) : Scratch() {
    const std::filesystem::path source = std::filesystem::path(EEP_SOURCE_DIR) / "tests/golden" / checkpoint;
    for (const auto& entry : std::filesystem::directory_iterator(source)) {
      if (!entry.is_regular_file() || entry.path().filename() == without) continue;
      std::filesystem::create_symlink(entry.path(), path_ / entry.path().filename());
    }
  }
  Scratch() {
    std::error_code none;  // memory, where the system has a directory in it
    const std::filesystem::path memory = "/dev/shm";
    const bool in_memory = std::filesystem::is_directory(memory, none) && access(memory.c_str(), W_OK) == 0;
    std::string pattern =
        ((in_memory ? memory : std::filesystem::temp_directory_path()) / "eep-fuzz-XXXXXX").string();
    demand(mkdtemp(pattern.data()) != nullptr, "no scratch directory");
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

  // A link to memory: no disk is waited for, whatever file system the directory lies in.
  void write(const std::string& name, const uint8_t* data, size_t size) const {
    const auto [place, inserted] = memory_.try_emplace(name, -1);
    if (inserted) {
      place->second = memfd_create(name.c_str(), MFD_CLOEXEC);
      demand(place->second >= 0, "no memory for a scratch file");
      std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(place->second), path_ / name);
    }
    demand(ftruncate(place->second, 0) == 0, "a scratch file cannot be emptied");
    demand(pwrite(place->second, data, size, 0) == static_cast<ssize_t>(size), "a scratch file ends early");
  }

  void link(const std::string& name, const std::filesystem::path& target) const {
    std::filesystem::create_symlink(std::filesystem::absolute(target), path_ / name);
  }

  // What write() wrote is there no more.
  void remove(const std::string& name) const {
    const auto place = memory_.find(name);
    if (place == memory_.end()) return;
    std::filesystem::remove(path_ / name);
    close(place->second);
    memory_.erase(place);
  }

 private:
  std::filesystem::path path_;
  mutable std::map<std::string, int> memory_;  // descriptors, open until the process ends
};

}  // namespace fuzz
