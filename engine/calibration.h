// calibrate: one routed pass of the unchanged model over calibration sequences, yielding the statistics of
// every one-shot criterion, and the reconstruction errors of kept subsets (NAEE) on the first tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/expert_statistics.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "engine/weights.h"

namespace eep {

// A pass between two chunks.
struct CalibrationState {
  int64_t rows = 0;                 // of the prompts that are done: whole trees
  std::vector<std::string> layers;  // [sparse layers] what each has been added to; empty: none begun
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
  // A pass over one Prompts that was ended goes on to the same bits: `begin` may fill the state in; `keep` is
  // called after every chunk. May be empty.
  std::function<void(CalibrationState* state)> begin{};
  std::function<void(const std::function<CalibrationState()>& state)> keep{};
  // Told after every mixture layer how many tokens are done: those times the share of the layers they have
  // passed. May be empty.
  std::function<void(int64_t tokens)> progress{};
};

// The next prompts of a text; false: no more.
using PromptSource = std::function<bool(Prompts& prompts)>;
// These alone.
PromptSource once(const Prompts& prompts);

// Where several processes make one pass, each running parts of the prompts: a layer's sums go from the
// process that has one part to that with the next, which adds to them, so that every addition is that of one
// process, in its order.
class SumsRelay {
 public:
  virtual ~SumsRelay() = default;
  // Of the layer of that number among the sparse ones, which the process has, behind all rows before this
  // part; empty: they are here. May wait.
  virtual std::string take(int32_t layer) = 0;
  // Behind this part's rows.
  virtual void give(int32_t layer, const std::function<std::string()>& bytes) = 0;
};

// A pass over prompts after prompts, or this process's share of one.
class CalibrationPass {
 public:
  // weights and what options calls outlive the pass.
  CalibrationPass(const Weights& weights, size_t memory_budget, const CalibrationOptions& options);
  ~CalibrationPass();
  CalibrationPass(const CalibrationPass&) = delete;
  CalibrationPass& operator=(const CalibrationPass&) = delete;

  // Asks options.begin; returns the rows of the first prompts that are done.
  int64_t begin();
  // Every row of `prompts` is a token of the calibration text and counts once (engine/prompt_texts.h).
  void run(const Prompts& prompts, int64_t first_row = 0);
  void run_part(const Prompts& prompts, SumsRelay& relay);
  // Calls options.keep with the sums as they are here.
  void keep(int64_t rows);
  // What another process has made of a layer.
  void set_sums(int32_t layer, std::string_view bytes);
  // Rows that run() takes through the layers together.
  int64_t chunk_rows(const Prompts& prompts) const;
  // Over several stages (engine/stages.h): until all have done what run_part() began.
  void await_stages();
  // Throws Error(kData) if a sum is no number. Over several stages the first one gets all layers.
  ExpertStatistics finish();

 private:
  class Impl;
  const Weights& weights_;
  size_t memory_;
  CalibrationOptions options_;
  std::unique_ptr<Impl> impl_;
};

// Prompts after prompts, of a text that need not fit memory: the sums are those of one pass over all of them.
ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const PromptSource& next,
                           const CalibrationOptions& options);

// The same over several stages (engine/stages.h), which call it with equal prompts and options, without a
// state to go on from; the first one gets the statistics of all layers.
ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                           const CalibrationOptions& options);

}  // namespace eep
