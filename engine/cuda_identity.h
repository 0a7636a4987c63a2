// Which GPU a device is: equal for two processes of a host that have the same one, whatever each calls it.
#pragma once

#include <string>

namespace eep {

std::string cuda_device_id(int index);  // "" where this build has no CUDA backend

}  // namespace eep
