#include "engine/unconfirmed.h"

#include <cstdlib>
#include <string>

#include "kernels/error.h"

namespace eep {

const std::vector<UnconfirmedPath>& unconfirmed_paths() {
  static const std::vector<UnconfirmedPath> paths{
      {"wgmma",
       "expert_ffn by wgmma and TMA on devices of compute capability 9.0 (kernels/expert_ffn_sm90.cu)"}};
  return paths;
}

bool unconfirmed_chosen(std::string_view name) {
  const char* setting = std::getenv(kUnconfirmedSetting);
  bool chosen = false;
  for (std::string_view rest = setting != nullptr ? setting : ""; !rest.empty();) {
    const size_t comma = rest.find(',');
    const std::string_view word = rest.substr(0, comma);
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
    std::string known;
    bool found = false;
    for (const UnconfirmedPath& path : unconfirmed_paths()) {
      known += (known.empty() ? "" : ", ") + std::string(path.name);
      found = found || word == path.name;
    }
    if (!found) {
      throw Error(ExitCode::kConfig, kUnconfirmedSetting,
                  "unknown path (expected one of " + known + ", got " + std::string(word) + ")");
    }
    chosen = chosen || word == name;
  }
  return chosen;
}

std::string unconfirmed_setting() {
  std::string names;
  for (const UnconfirmedPath& path : unconfirmed_paths()) {
    if (unconfirmed_chosen(path.name)) names += (names.empty() ? "" : ",") + std::string(path.name);
  }
  return names.empty() ? "none" : names;
}

}  // namespace eep
