// The directory of a run: made or reopened, locked against a second run, with its manifest.
#pragma once

#include <string>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

class RunDirectory {
 public:
  // Makes `path` (and its parents) and locks it. Throws Error(kIo), and Error(kRuntime) if another run holds
  // the lock.
  explicit RunDirectory(const std::string& path);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  int lock_ = -1;
};

// runs/<UTC>-<name>-<hash of the configuration>, made and empty. Throws Error(kIo).
std::string default_run_path(const std::string& name, const std::string& resolved_config);

// Versions, hardware, seed, hashes and the command line.
Json make_manifest(const std::string& command_line, int threads, uint64_t seed, const std::string& model_path,
                   const std::string& model_hash);

// Writes the manifest, or, where the run has one, throws Error(kData) if the model, the data or (on the same
// device) the choice of kernels has changed since.
void keep_manifest(const std::string& file, const Json& manifest);

}  // namespace eep
