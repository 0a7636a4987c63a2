// LayerMark: "layer 3" over what is asked of the device while it lives, for profilers.
#pragma once

#include <string>

#include "engine/ops.h"

namespace eep {

class LayerMark {
 public:
  LayerMark(const Backend& backend, int64_t layer) : backend_(backend) {
    if (backend.ops->begin_range != nullptr)
      backend.ops->begin_range(("layer " + std::to_string(layer)).c_str(), backend.device);
  }
  ~LayerMark() {
    if (backend_.ops->end_range != nullptr) backend_.ops->end_range(backend_.device);
  }
  LayerMark(const LayerMark&) = delete;
  LayerMark& operator=(const LayerMark&) = delete;

 private:
  const Backend& backend_;
};

}  // namespace eep
