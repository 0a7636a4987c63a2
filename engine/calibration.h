// calibrate: one routed pass of the unchanged model over calibration sequences, yielding the statistics of
// every one-shot criterion, and the reconstruction errors of kept subsets (NAEE) on the first tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/expert_statistics.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "engine/weights.h"

namespace eep {

// Rows of one layer wait here until a batch is full, so that batches do not depend on how the pass was cut
// into blocks.
struct PendingRows {
  std::vector<float> x;       // [rows, hidden]
  std::vector<float> logits;  // [rows, experts]
  int64_t taken = 0;          // rows so far, full batches included
};

// A pass between two chunks.
struct CalibrationState {
  int64_t rows = 0;  // of the prompts that are done: whole trees
  ExpertStatistics statistics;
  std::vector<PendingRows> pending;  // [sparse layers]
};

// What is summed: values that a message can hold.
struct CalibrationSums {
  // Kept counts for which subset errors are wanted; empty: none.
  std::vector<int32_t> subset_kept;
  int64_t subset_tokens = 2048;  // tokens of the calibration text that enter the subset errors
  int64_t subset_batch = 64;     // rows of one batch: error = sum over batches of the Frobenius norm
  // All subsets if there are at most this many, else what `sample_subsets` returns.
  int64_t max_exhaustive = 10000;
  // Sums of engine/calibration_details.h, made on the host.
  bool details = false;
  // Those of them that need every expert on the first `subset_tokens` tokens.
  bool every_expert = false;
};

struct CalibrationOptions : CalibrationSums {
  // (layer, kept) -> distinct ascending subsets to try when there are too many.
  std::function<std::vector<std::vector<int32_t>>(int32_t layer, int32_t kept)> sample_subsets{};
  // A pass over one Prompts, without details, that was ended goes on to the same bits: `begin` may fill the state in, which has its sizes and is
  // empty; `keep` is called after every chunk. May be empty.
  std::function<void(CalibrationState* state)> begin{};
  std::function<void(const std::function<CalibrationState()>& state)> keep{};
  // Told after every mixture layer how many tokens are done: those times the share of the layers they have passed.
  // May be empty.
  std::function<void(int64_t tokens)> progress{};
};

// The next prompts of a text; false: no more.
using PromptSource = std::function<bool(Prompts& prompts)>;

// Prompts after prompts, of a text that need not fit memory: the sums are those of one pass over all of them.
ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const PromptSource& next,
                           const CalibrationOptions& options);

// The same over several stages (engine/stages.h), which call it with equal prompts and options, without a state to go
// on from; the first one gets the statistics of all layers.
// Every row of `prompts` is a token of the calibration text and counts once (engine/prompt_texts.h).
ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                           const CalibrationOptions& options);

}  // namespace eep
