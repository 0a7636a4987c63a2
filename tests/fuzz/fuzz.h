// What every fuzzer shares: bad input may only end in an eep::Error of one line with an exit code for bad
// input.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "kernels/error.h"

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
    std::string pattern = (std::filesystem::temp_directory_path() / "eep-fuzz-XXXXXX").string();
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

  void write(const std::string& name, const uint8_t* data, size_t size) const {
    std::ofstream(file(name), std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  }

 private:
  std::filesystem::path path_;
};

}  // namespace fuzz
