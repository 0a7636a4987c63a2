// A directory for one test, removed with everything in it at the end; and how tests look at errors.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "kernels/common/error.h"

namespace eep {

class Scratch {
 public:
  Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "eep-test-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::filesystem::remove_all(root_); }

  std::string path(const std::string& name = "") const { return (root_ / name).string(); }
  std::string write(const std::string& name, std::string_view bytes) const {
    std::filesystem::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name, std::ios::binary) << bytes;
    return path(name);
  }
  size_t entries() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(root_)) ++count;
    return count;
  }

 private:
  std::filesystem::path root_;
};

// Runs `action`, which must throw an Error of this code whose text holds `part`.
template <typename Action>
void check_error(ExitCode code, const std::string& part, Action action) {
  try {
    action();
    FAIL_CHECK("no error; expected one with: " << part);
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK_MESSAGE(error.code() == code, text);
    CHECK_MESSAGE(text.find(part) != std::string::npos, "\"" << text << "\" lacks \"" << part << "\"");
    CHECK_MESSAGE(text.find('\n') == std::string::npos, text);
  }
}

}  // namespace eep
