// What MPI needs of the CUDA backend where it is given a GPU's memory; nothing happens in a build without it.
#pragma once

namespace eep {

// Before memory is taken: what is taken from now on can be opened by other processes of the host.
void share_cuda_memory();
// In a thread that calls MPI and did not open the device.
void use_cuda_device(int index);

}  // namespace eep
