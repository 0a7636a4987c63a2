#include "experiments/study/run_directory.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "engine/kernel_path.h"
#include "experiments/study/version.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/cpu/cpu_target.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

// "plan.json.tmp.1234.0": what an AtomicFile writes to until it is whole.
bool is_temporary(const std::string& name) {
  const size_t at = name.rfind(".tmp.");
  if (at == std::string::npos) return false;
  const std::string numbers = name.substr(at + 5);
  return !numbers.empty() && numbers.find_first_not_of("0123456789.") == std::string::npos;
}

// Of a run that was killed while it wrote; whoever has the lock is alone.
void remove_temporaries(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::recursive_directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_temporary(entry->path().filename().string())) found.push_back(entry->path());
  }
  for (const fs::path& file : found) fs::remove(file, error);
}

}  // namespace

RunDirectory::RunDirectory(const std::string& path) : path_(path) {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error) throw Error(ExitCode::kIo, path_, "cannot create the directory: " + error.message());
  const std::string lock_file = file(".lock");
  lock_ = ::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) throw Error(ExitCode::kIo, lock_file, std::string("cannot create: ") + std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    throw Error(ExitCode::kRuntime, path_, "another run is using this directory");
  }
  remove_temporaries(path_);
}

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) ::close(lock_);
}

std::string default_run_path(const std::string& name, const std::string& resolved_config) {
  const std::time_t now = std::time(nullptr);
  const XXH64_hash_t hash = XXH3_64bits(resolved_config.data(), resolved_config.size());
  const std::string first =
      fmt::format("runs/{:%Y%m%dT%H%M%SZ}-{}-{:08x}", fmt::gmtime(now), name, static_cast<uint32_t>(hash));
  std::error_code error;
  std::filesystem::create_directories("runs", error);
  std::string path = first;
  // Making it takes it: another run may start in the same second.
  for (int i = 2; !error && !std::filesystem::create_directory(path, error) && !error; ++i)
    path = fmt::format("{}-{}", first, i);
  if (error) throw Error(ExitCode::kIo, path, "cannot create the directory: " + error.message());
  return path;
}

Json make_manifest(const std::string& command_line, int threads, uint64_t seed, const std::string& model_path,
                   const std::string& model_hash) {
  utsname system{};
  ::uname(&system);
  std::string processor;
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.starts_with("model name")) {
      processor = line.substr(line.find(':') + 2);
      break;
    }
  }
  const std::time_t now = std::time(nullptr);
  return {{"format", "eep-manifest"},
          {"version", kVersion},
          {"started", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now))},
          {"command", command_line},
          {"seed", seed},
          {"cpu", processor},
          {"cpu_target", cpu_target()},
          {"threads", threads},
          {"system", std::string(system.sysname) + " " + system.release + " " + system.machine},
          {"compiler", __VERSION__},
          {"model", {{"path", model_path}, {"hash", model_hash}}}};
}

void keep_manifest(const std::string& file, const Json& manifest) {
  if (!file_exists(file)) {
    write_file_atomic(file, manifest.dump(2) + "\n");
    return;
  }
  const JsonDocument document = JsonDocument::read(file);
  const JsonView before = document.root();
  const auto same = [&](const std::string& what, const std::string& then, const std::string& now) {
    if (then != now)
      throw Error(ExitCode::kData, file, fmt::format("{} has changed", what) + expected_got(then, now));
  };
  same("the model", before.at("model").at("hash").as_string(), manifest["model"]["hash"]);
  for (const auto& [split, hash] : manifest["data"].items()) {
    if (before.at("data").has(split))  // runs of earlier versions have no hash of the test split
      same("the " + split + " split", before.at("data").at(split).as_string(), hash.get<std::string>());
  }
  if (before.has("inputs")) {  // not in runs of earlier versions
    for (const auto& [input, hash] : manifest["inputs"].items()) {
      if (before.at("inputs").has(input))
        same("the " + input, before.at("inputs").at(input).as_string(), hash.get<std::string>());
    }
  }
  // another path may give other bits
  if (before.at("device").as_string() == manifest["device"].get<std::string>()) {
    const bool known = before.has("kernel_path");  // runs from before there was a choice
    same(kKernelPathSetting, known ? before.at("kernel_path").as_string() : "auto", manifest["kernel_path"]);
  }
}

}  // namespace eep
