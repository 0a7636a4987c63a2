// Scoring: one call of PopulationForward::score. Chunks of prompts pass through the layers, and their scores
// go to their places. Of several stages (stages.h) the first one leads; the others do what it tells them,
// chunk by chunk.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "engine/chunk_pass.h"

namespace eep {

class Scoring {
 public:
  using Scores = std::vector<std::vector<TokenScore>>;  // [candidates][Prompts::scores]

  // All outlive this object.
  Scoring(const Weights& weights, const LayerVariants& variants, const MemoryPlan& plan,
          const Prompts& prompts, size_t candidates, WorkCounts& work);

  ChunkPass& pass() { return pass_; }
  void lead(ScoreKeeper* keeper, const std::function<void(double share)>& progress, Scores* scores);
  void follow();
  // Adds what was moved and computed, by other stages too as far as rows go, to the work.
  void count();

 private:
  // A chunk whose rows are with the next stages.
  struct UnderWay {
    const PromptChunk* chunk;
    std::vector<Stream> streams;
  };
  std::vector<size_t> unknown(const PromptChunk& chunk, size_t begin, size_t end, ScoreKeeper* keeper,
                              Scores* scores) const;
  // Of the chunk that the pass holds, one stream after the other.
  std::vector<TokenScore> made(const PromptChunk& chunk);
  void put(const PromptChunk& chunk, const std::vector<Stream>& streams, std::span<const TokenScore> made,
           ScoreKeeper* keeper, Scores* scores) const;
  void pass_on(int64_t number, std::span<const size_t> candidates);
  void take_back(ScoreKeeper* keeper, Scores* scores);

  const ModelConfig& config_;
  const MemoryPlan& plan_;
  const Prompts& prompts_;
  size_t candidates_;
  WorkCounts& work_;
  StageLink* link_;
  ChunkPass pass_;
  std::vector<PromptChunk> chunks_;
  std::deque<UnderWay> under_way_;
  int64_t row_layers_elsewhere_ = 0;
};

}  // namespace eep
