#include "engine/layer_stream.h"

#include <algorithm>

namespace eep {

LayerStream::LayerStream(const Backend& backend, size_t buffer_bytes)
    : ops_(*backend.ops), device_(backend.device) {
  static_assert(kStreamBuffers == 2 && kStreamBuffers <= kUploadSlots);
  for (DeviceBuffer& buffer : buffers_) buffer = DeviceBuffer(backend, buffer_bytes);
  holds_.fill(kNothing);
}

int LayerStream::slot_of(int64_t number) const {
  const auto found = std::find(holds_.begin(), holds_.end(), number);
  return found == holds_.end() ? -1 : static_cast<int>(found - holds_.begin());
}

void LayerStream::load(int64_t number, int slot) {
  const HostBuffer& layer = layers_[static_cast<size_t>(number)];
  ops_.upload_ahead(buffer(slot), layer.data(), layer.bytes(), slot, device_);
  holds_[static_cast<size_t>(slot)] = number;
  awaited_[static_cast<size_t>(slot)] = false;
  ++copies_;
}

int LayerStream::acquire(int64_t number) {
  int slot = slot_of(number);
  if (slot < 0) {
    const int busy = current_ == kNothing ? 1 : slot_of(current_);
    slot = 1 - busy;
    load(number, slot);
  }
  if (!awaited_[static_cast<size_t>(slot)]) {
    ops_.await_upload(slot, device_);
    awaited_[static_cast<size_t>(slot)] = true;
  }
  if (number == current_) return slot;
  current_ = number;
  // All work of the layer before is with the device by now: its buffer is taken when that work is over. After
  // the last layer comes the first, of the next chunk.
  const int64_t next = (number + 1) % static_cast<int64_t>(layers_.size());
  if (slot_of(next) < 0) load(next, 1 - slot);
  return slot;
}

}  // namespace eep
