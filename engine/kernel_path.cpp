#include "engine/kernel_path.h"

#include <cstdlib>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {

std::string kernel_path_setting() {
  const char* const value = std::getenv(kKernelPathSetting);
  const std::string word = value == nullptr || *value == '\0' ? "auto" : value;
  if (word == "auto" || word == "mma" || word == "wgmma") return word;
  throw Error(ExitCode::kConfig, kKernelPathSetting,
              "unknown path" + expected_got("one of auto, mma, wgmma", word));
}

bool wgmma_chosen(bool supported, bool automatic) {
  const std::string word = kernel_path_setting();
  if (word == "auto") return supported && automatic;
  if (word == "wgmma" && !supported) {
    throw Error(ExitCode::kConfig, kKernelPathSetting,
                "wgmma needs a device of compute capability 9.0 (expected auto or mma)");
  }
  return word == "wgmma";
}

}  // namespace eep
