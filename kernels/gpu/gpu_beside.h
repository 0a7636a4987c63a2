// gpu_beside: work of a device that runs beside its other work, in a second stream.
#pragma once

#include "kernels/common/device.h"

namespace eep {

// The device for such work, which starts when all that was given to `device` so far is over. What `device` is
// given after join_beside starts when the work beside it is over; until then neither may write what the other
// uses. A fork follows a join. Without a second stream both are the device itself.
Device fork_beside_simt(const Device& device);
Device fork_beside_cuda(const Device& device);
void join_beside_simt(const Device& device);
void join_beside_cuda(const Device& device);

}  // namespace eep
