// gpu_messages: a device's memory in the hands of a message library (MPI), which hands it to other processes.
#pragma once

namespace eep {

// Memory of a pool (cudaMallocAsync) has no handle that another process could open: message libraries copy it
// through the host, or fail. From this call on memory comes from cudaMalloc.
void share_memory_cuda();
bool memory_is_shared_cuda();
// Makes the device the calling thread's, whose copies a message library begins in whatever thread calls it.
void use_device_cuda(int index);

}  // namespace eep
