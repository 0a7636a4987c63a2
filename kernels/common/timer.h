// timer: how long a device takes for what is given to it. work() may be called while the device is busy
// with what came before, whose time does not count.
#pragma once

#include <functional>

#include "kernels/common/device.h"

namespace eep {

double seconds_cpu(const std::function<void()>& work, const Device& device);  // by the clock
double seconds_simt(const std::function<void()>& work,
                    const Device& device);  // the host's: says nothing of a GPU
double seconds_cuda(const std::function<void()>& work,
                    const Device& device);  // between two events of the stream

}  // namespace eep
