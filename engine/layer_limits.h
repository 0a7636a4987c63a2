// LayerLimits: the most that one call of LayerPass may ask for. The memory plan sets them, so that a layer
// takes no memory while it runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/config.h"

namespace eep {

struct LayerLimits {
  int64_t block_rows = 0;   // rows of one call
  int32_t slots = 0;        // largest top_k
  int64_t positions = 0;    // rope table
  int64_t groups = 0;       // base and merged experts of one block
  int64_t first_slots = 0;  // sources x groups of a block in which rows share one
  bool rows_16bit = false;  // products read 16-bit copies of their rows (Ops::round_rows)
};

// Bytes that LayerPass takes when it is made.
size_t layer_scratch_bytes(const ModelConfig& config, const LayerLimits& limits);
// Bytes that LayerPass::logits takes beside: the vocabulary for this many rows at once.
inline constexpr int64_t kLogitRows = 64;
size_t logits_bytes(const ModelConfig& config);

}  // namespace eep
