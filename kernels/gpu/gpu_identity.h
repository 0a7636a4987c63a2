// The identity of a CUDA device.
#pragma once

#include <string>

namespace eep {

std::string device_id_cuda(int index);  // its UUID as hexadecimal digits

}  // namespace eep
