#include "bench/gpu/cublas_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <vector>

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

namespace eep::bench {
namespace {

namespace fs = std::filesystem;

#ifdef CUBLAS_VER_MAJOR
constexpr int kRelease = CUBLAS_VER_MAJOR;
#else
constexpr int kRelease = 0;
#endif

std::vector<fs::path> folders_in(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  return found;
}

// <prefix>/lib/python3.X/{site,dist}-packages/nvidia/{cu<release>,cublas}/lib of each <prefix>/bin/python3 on
// PATH.
std::vector<fs::path> python_folders() {
  std::vector<fs::path> folders;
  const char* path = std::getenv("PATH");
  std::istringstream entries(path == nullptr ? "" : path);
  for (std::string entry; std::getline(entries, entry, ':');) {
    std::error_code ignored;
    if (entry.empty() || !fs::exists(fs::path(entry) / "python3", ignored)) continue;
    for (const fs::path& python : folders_in(fs::path(entry).parent_path() / "lib", "python3"))
      for (const char* packages : {"site-packages", "dist-packages"})
        for (const std::string& part : {"cu" + std::to_string(kRelease), std::string("cublas")})
          folders.push_back(python / packages / "nvidia" / part / "lib");
  }
  return folders;
}

// Both from one folder, "" for the loader's path. cuBLAS needs cuBLASLt: it comes first.
bool load(const fs::path& folder, CublasLibraries& libraries) {
  const auto open = [&](const char* name) {
    const std::string file = std::string(name) + ".so." + std::to_string(kRelease);
    return dlopen((folder.empty() ? fs::path(file) : folder / file).c_str(), RTLD_NOW | RTLD_GLOBAL);
  };
  void* const lt = open("libcublasLt");
  if (lt == nullptr) return false;
  void* const cublas = open("libcublas");
  if (cublas == nullptr) {
    dlclose(lt);
    return false;
  }
  libraries = {cublas, lt, folder.empty() ? "the loader's path" : folder.string()};
  return true;
}

CublasLibraries find() {
  CublasLibraries libraries;
  libraries.where = "cuBLAS is not found (EEP_CUBLAS names its folder)";
  if (kRelease == 0) {
    libraries.where = "the build had no header of cuBLAS";
    return libraries;
  }
  if (const char* named = std::getenv("EEP_CUBLAS"); named != nullptr && *named != '\0') {
    if (!load(named, libraries)) libraries.where = std::string("no cuBLAS in ") + named;
    return libraries;
  }
  std::vector<fs::path> folders = {"", "/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib"};
  const std::vector<fs::path> python = python_folders();
  folders.insert(folders.end(), python.begin(), python.end());
  for (const fs::path& folder : folders)
    if (load(folder, libraries)) break;
  return libraries;
}

}  // namespace

const CublasLibraries& cublas_libraries() {
  static const CublasLibraries libraries = find();
  return libraries;
}

}  // namespace eep::bench
