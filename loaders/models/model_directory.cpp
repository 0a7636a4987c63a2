#include "loaders/models/model_directory.h"

#include <algorithm>

#include "loaders/formats/file.h"

namespace eep {

void require_model_directory(const std::string& path) {
  if (directory_exists(path)) return;
  std::string hint;
  if (file_exists(path) && path.ends_with(".gguf")) {
    hint = "a GGUF file: eep convert " + path + " --out DIR, and name that directory";
  } else if (file_exists(path)) {
    hint = "a file: name the directory it lies in";
  } else if (!is_there(path) && std::count(path.begin(), path.end(), '/') == 1 && path.front() != '/' &&
             path.front() != '.' && path.back() != '/') {
    hint = "the name of a model on a hub? Nothing is downloaded: fetch it (hf download " + path +
           " --local-dir DIR), and name that directory";
  }
  fail_missing(path, "no such model directory", hint);
}

}  // namespace eep
