// WeightPlan: which layers' weights stay on the device and which are streamed to it from the host's memory,
// layer by layer, as the passes come to them; on the CPU which ones stay packed, the others being packed when
// a pass comes to them. Results do not depend on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/config.h"
#include "engine/ops.h"

namespace eep {

// One buffer holds the layer that computes, the other takes the next one.
inline constexpr int kStreamBuffers = 2;

struct WeightPlan {
  LayerRange layers;              // that are there; without an end: all
  std::vector<uint8_t> streamed;  // [layers] 1: in the host's memory; empty: every layer is resident
  size_t resident = 0;            // bytes on the device: embedding, vocabulary and the resident layers
  size_t buffer = 0;              // bytes of one streaming buffer: the largest streamed layer
  size_t host = 0;                // bytes of the streamed layers

  int64_t streamed_layers() const {
    int64_t count = 0;
    for (uint8_t flag : streamed) count += flag;
    return count;
  }
  size_t device_bytes() const { return resident + kStreamBuffers * buffer; }
};

// Everything is resident if it fits `budget` (bytes; 0: unlimited) beside what a pass works with; else as
// many layers as leave a quarter of the budget, the streamed ones spread evenly, so that a copy has several
// layers' time. Throws Error(kRuntime) with the least that would do.
// layers: of a stage (stages.h).
WeightPlan plan_weights(const ModelConfig& config, const Ops& ops, size_t budget, LayerRange layers);
WeightPlan plan_weights(const ModelConfig& config, const Ops& ops, size_t budget);
// The fewest streamed layers that leave `work` bytes; none where all of them do not.
std::optional<WeightPlan> plan_weights_beside(const ModelConfig& config, const Ops& ops, size_t budget,
                                              LayerRange layers, size_t work);
// Every layer streamed: the least that weights take.
WeightPlan stream_every_layer(const ModelConfig& config, const Ops& ops, LayerRange layers);

}  // namespace eep
