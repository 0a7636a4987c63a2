// An evaluation over all ranks: rank 0 sends parts of it, computes its own, and puts the items together in
// their order, so that every sum is that of one rank.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/ranks/ranks.h"
#include "experiments/study/division.h"
#include "experiments/study/rank_messages.h"
#include "experiments/study/task_context.h"

namespace eep {

// Tags of the work.
constexpr int kWorkTag = Ranks::kFirstTag, kResultTag = kWorkTag + 1, kKeptTag = kWorkTag + 2,
              kProgressTag = kWorkTag + 3, kLastTag = kProgressTag;

// The side of the rank that leads: 0, or the first of a group.
class RankEvaluation {
 public:
  // This rank and the next ones, `count` together, every `step`-th of which takes part.
  RankEvaluation(Ranks& ranks, int count, int step)
      : ranks_(ranks), first_(ranks.rank()), step_(step), speeds_(static_cast<size_t>(count / step)) {}

  // Throws Interrupted, and Error where another rank fails or its model or data differ.
  std::vector<SplitResult> evaluate(int32_t combination, ModelContext& model, TaskContext& task, Split set,
                                    std::span<const ExpertPlan> plans, std::span<const int32_t> items);

 private:
  struct Evaluation;
  void send_work(const Evaluation& evaluation, int rank);
  void compute_own(Evaluation& evaluation);
  void await_results(Evaluation& evaluation);
  void take(Evaluation& evaluation, const RankMessage& message);
  void put_together(Evaluation& evaluation, int rank,
                    const std::vector<std::vector<std::vector<ItemScore>>>& items);
  void keep_waiting_records(EvaluationJournal* journal);
  void note_progress(Evaluation& evaluation, int rank, const RankProgress& progress);

  Ranks& ranks_;
  int rank_of(int part) const { return first_ + part * step_; }

  int first_, step_;
  RankSpeeds speeds_;
  int32_t number_ = 0;
};

// Throws Error(kData) if what this rank sees is not what the one that leads does.
void check_same_as_leader(const std::string& what, const std::string& wanted, const std::string& found);

// The other ranks' side: one evaluation for rank `leader`, to which the journal's records go as they are
// made.
RankResult compute_work(const RankWork& work, int leader, ModelContext& model, TaskContext& task,
                        Ranks& ranks);

}  // namespace eep
