// What PopulationForward keeps between calls; shared by forward.cpp (scoring) and generator.cpp (decoding).
#pragma once

#include <optional>

#include "engine/forward.h"
#include "engine/kept_layers.h"
#include "engine/layer_pass.h"

namespace eep {

struct PopulationForward::State {
  State(const Weights& weights_, size_t budget)
      : weights(weights_), config(weights_.config()), memory_budget(budget) {}

  const Weights& weights;
  const ModelConfig& config;
  size_t memory_budget;
  WorkCounts work;
  std::function<void(double share)> progress;  // of score(); may be empty
  size_t most_kept = 0;                        // bytes
  std::optional<KeptLayers> kept;              // where most_kept is not 0

  // Throws Error(kData) on a token outside the vocabulary and Error(kRuntime) on a sequence longer than the
  // model's positions.
  void check_tokens(std::span<const int32_t> tokens, int64_t longest) const;
  // Of a scoring pass.
  // stages: how many the layers are divided into; 0: as they are.
  MemoryPlan plan(const LayerVariants& variants, size_t candidates, const Prompts& prompts,
                  int stages = 0) const;
};

}  // namespace eep
