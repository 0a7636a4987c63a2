// DeviceBuffer: move-only owner of a backend's memory (host memory on the CPU).
#pragma once

#include <cstddef>
#include <utility>

#include "engine/ops.h"

namespace eep {

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(const Backend& backend, size_t bytes)
      : ops_(backend.ops), device_(backend.device), data_(ops_->allocate(bytes, device_)), bytes_(bytes) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() {
    if (data_ != nullptr) ops_->release(data_, device_);
  }

  // Room for `bytes`; what was in it is lost if it has to grow.
  void reserve(const Backend& backend, size_t bytes) {
    if (bytes > bytes_) *this = DeviceBuffer(backend, bytes);
  }

  // Const like a pointer: the owner is, the memory is not.
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(ops_, other.ops_);
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  const Ops* ops_ = nullptr;
  Device device_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace eep
