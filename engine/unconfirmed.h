// Paths of the CUDA backend that no GPU has confirmed. They are opt-in by name, and the default only after a
// passing bench/gpu_check.sh:
//
//   EEP_CUDA_UNCONFIRMED=wgmma eep run experiment.yaml --device cuda
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace eep {

inline constexpr const char* kUnconfirmedSetting = "EEP_CUDA_UNCONFIRMED";

struct UnconfirmedPath {
  const char* name;
  const char* what;
};

const std::vector<UnconfirmedPath>& unconfirmed_paths();

// Whether the setting, names separated by commas, chooses this path. Error(kConfig) for a name that is
// none.
bool unconfirmed_chosen(std::string_view name);
// The chosen names, separated by commas, or "none". Error(kConfig) as above.
std::string unconfirmed_setting();

}  // namespace eep
