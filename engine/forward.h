// PopulationForward: the engine's only forward pass. All candidates (plans over one set of base weights)
// advance through layer l together; a single model is a population of one whose plan is the identity.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/memory_plan.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "engine/taps.h"
#include "engine/weights.h"
#include "kernels/score.h"

namespace eep {

// What was computed against what was asked for: the work factor.
struct WorkCounts {
  int64_t tokens_computed = 0;  // token-layers / layers
  int64_t tokens_asked = 0;     // candidates x tokens of their sequences, nothing shared
  int64_t merged_experts = 0;   // experts materialised
  int64_t merge_bytes = 0;      // that merging read (all base experts of a layer, once for what is merged
                                // together) and wrote
  int64_t expert_bytes = 0;     // weights of experts that a block's rows may choose, once a block
  int64_t tokens_kept = 0;      // token-layers / layers that an earlier call of score() had computed
  int64_t decode_steps = 0;
  int64_t drafted = 0;   // tokens that were guessed and computed beside the last known one
  int64_t accepted = 0;  // of these, the right ones: steps of a sequence that were not taken
  RouterCounts router;   // sums of selected weights near zero or negative

  WorkCounts& operator+=(const WorkCounts& other);
};

// Where one candidate's generation may stop. Called with the tokens generated so far (never empty); true: no
// further token is needed.
using StopFunction =
    std::function<bool(int32_t candidate, int32_t sequence, std::span<const int32_t> generated)>;

// What may follow the tokens generated so far (none at first), as a guess; the result is read at once. Where
// it is right, one step yields several tokens; no token depends on it.
using DraftFunction = std::function<std::span<const int32_t>(int32_t candidate, int32_t sequence,
                                                             std::span<const int32_t> generated)>;

struct GenerateOptions {
  int32_t max_new = 20;
  bool ignore_eos = false;
  // Called with what was generated when a sequence is finished; may be empty.
  std::function<void(int32_t candidate, int32_t sequence, std::span<const int32_t> generated)> finished{};
  // Called where the logits of a sequence's next token are no numbers: the sequence ends before that token.
  // Empty: it goes on, by whatever arg-max the kernels see.
  std::function<void(int32_t candidate, int32_t sequence)> lost{};
};

// Scores that are kept as they are made, so that a pass which was ended goes on. begin: place in
// Prompts::scores.
class ScoreKeeper {
 public:
  virtual ~ScoreKeeper() = default;
  // Fills in what an earlier pass has made of a plan's scores [begin, begin + scores.size()); false: not all.
  virtual bool known(size_t plan, int32_t begin, std::span<TokenScore> scores) = 0;
  virtual void made(size_t plan, int32_t begin, std::span<const TokenScore> scores) = 0;
  virtual void chunk_done() = 0;  // after every chunk
};

class PopulationForward {
 public:
  // memory_budget: bytes for packed weights, activations and merged experts together; 0: unlimited.
  PopulationForward(const Weights& weights, size_t memory_budget);
  ~PopulationForward();

  // [candidate][score]: the scores of prompts.scores for every plan. Plans must have passed check_plan.
  // keeper: may be null. Like all passes it throws Interrupted between layers (kernels/common/interrupt.h).
  std::vector<std::vector<TokenScore>> score(std::span<const ExpertPlan> plans, const Prompts& prompts,
                                             ScoreKeeper* keeper = nullptr);

  // Greedy continuations: prompts[candidate][sequence] in, [candidate][sequence] generated ids out, the
  // end-of-sequence id that stopped one included. Candidates may have different prompts (and none).
  std::vector<std::vector<std::vector<int32_t>>> generate(
      std::span<const ExpertPlan> plans, std::span<const std::vector<std::vector<int32_t>>> prompts,
      const GenerateOptions& options, const StopFunction& stop, const DraftFunction& draft = nullptr);

  // Of a stage that is not the first: its part of what the first one has announced.
  void follow(const StageCall& call);

  // Full logits of one sequence: [tokens, vocab]. taps: what passes through the layers on the way; may be
  // null.
  std::vector<float> logits(const ExpertPlan& plan, std::span<const int32_t> tokens, Taps* taps = nullptr);

  // From now on, where no other stages are, score() keeps rows behind layers for its later calls
  // (kept_layers.h), in at most so many bytes of what the memory plan leaves. 0: no longer, and what is kept
  // is given up.
  void keep_layers(size_t bytes);

  // The memory plan that score() would follow for this work; stages: with the layers divided into so many, 0:
  // as they are.
  MemoryPlan memory_plan(std::span<const ExpertPlan> plans, const Prompts& prompts, int stages = 0) const;

  const WorkCounts& work() const;
  void reset_work();
  // Told during score(), after every layer, which share of the work is done, 0..1; the last time it is 1.
  void set_progress(std::function<void(double share)> progress);

 private:
  void follow_generation(std::span<const ExpertPlan> plans);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace eep
