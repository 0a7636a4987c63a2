// LayerStream: weights of layers that do not fit the device lie packed in the host's memory and pass through
// a few device buffers. While a layer computes, the next one is copied; what orders the two is the device's
// (Ops::upload_ahead and await_upload), so the host waits for neither.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/device_buffer.h"
#include "engine/weight_plan.h"

namespace eep {

// Move-only owner of memory of Ops::allocate_host; where the device's memory is the host's, of that.
class HostBuffer {
 public:
  HostBuffer(const Backend& backend, size_t bytes)
      : ops_(backend.ops),
        device_(backend.device),
        data_((ops_->allocate_host != nullptr ? ops_->allocate_host : ops_->allocate)(bytes, device_)),
        bytes_(bytes) {}
  HostBuffer(HostBuffer&& other) noexcept
      : ops_(other.ops_),
        device_(other.device_),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(other.bytes_) {}
  HostBuffer& operator=(HostBuffer&&) = delete;
  ~HostBuffer() {
    if (data_ != nullptr)
      (ops_->release_host != nullptr ? ops_->release_host : ops_->release)(data_, device_);
  }
  uint8_t* data() const { return static_cast<uint8_t*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  const Ops* ops_;
  Device device_;
  void* data_;
  size_t bytes_;
};

class LayerStream {
 public:
  LayerStream(const Backend& backend, size_t buffer_bytes);

  // The next layer's packed weights, in the order in which passes come to them.
  void add(HostBuffer layer) { layers_.push_back(std::move(layer)); }
  uint8_t* buffer(int slot) const { return buffers_[static_cast<size_t>(slot)].as<uint8_t>(); }
  // The buffer in which work given to the device from now on finds layer `number` of those added. It stays
  // until the layer after the next one is asked for.
  int acquire(int64_t number);
  int64_t copies() const { return copies_; }

 private:
  static constexpr int64_t kNothing = -1;
  int slot_of(int64_t number) const;
  void load(int64_t number, int slot);

  const Ops& ops_;
  Device device_;
  std::vector<HostBuffer> layers_;
  std::array<DeviceBuffer, kStreamBuffers> buffers_;
  std::array<int64_t, kStreamBuffers> holds_;
  std::array<bool, kStreamBuffers> awaited_{};
  int64_t current_ = kNothing;
  int64_t copies_ = 0;
};

}  // namespace eep
