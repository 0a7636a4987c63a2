// Evaluation of plans on one split of a task: scores of the whole population in one pass, then decoding for
// the few answers that teacher forcing leaves open, with the right answer and what earlier plans wrote as
// drafts.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/drafts.h"
#include "engine/forward.h"
#include "experiments/study/evaluation_journal.h"
#include "loaders/tasks/requests.h"

namespace eep {

struct SplitResult {
  double score = 0;   // mean metric, a fraction
  double loglik = 0;  // mean log-likelihood of the right answers
  int32_t n = 0;
  std::vector<double> more;      // means of the task's other metrics
  std::vector<ItemScore> items;  // [n]

  std::vector<double> metrics() const;               // [n]
  std::vector<double> metrics(size_t number) const;  // [n] of the task's metric of this number, 0 the first
  void sum_up(const Task& task);  // n and the means, of the items; macro_f1 of all together
};

// How far an evaluation is: answers, plans times items; of a further step, decoding, those that it has to
// decide.
using AnswerProgress = std::function<void(bool decoding, int64_t done, int64_t total)>;

class SplitEvaluator {
 public:
  // `weights` and `tokenizer` must outlive this object. memory: bytes, 0: unlimited.
  SplitEvaluator(const Weights& weights, size_t memory, const Task& task, std::vector<Item> items,
                 const Tokenizer& tokenizer);

  // One result a plan. Its bits do not depend on the other plans.
  std::vector<SplitResult> evaluate(std::span<const ExpertPlan> plans);
  // The same on the given items of the split.
  std::vector<SplitResult> evaluate(std::span<const ExpertPlan> plans, std::span<const int32_t> items);
  // The identities of plans' evaluations on those items; empty: all.
  std::vector<EvaluationJournal::Key> keys(std::span<const ExpertPlan> plans,
                                           std::span<const int32_t> items) const;
  // Every item generated to its end (stop string, end of sequence, limit), for samples: the text of each.
  std::vector<std::string> texts(const ExpertPlan& plan);

  const Requests& requests() const { return requests_; }
  MemoryPlan memory_plan(std::span<const ExpertPlan> plans, int stages = 0) const {
    return forward_.memory_plan(plans, requests_.prompts(), stages);
  }
  const WorkCounts& work() const { return forward_.work(); }
  void keep_layers(size_t bytes) { forward_.keep_layers(bytes); }
  // Where evaluations are kept as they are made, and looked up; or null. It outlives its use.
  void set_journal(EvaluationJournal* journal) { journal_ = journal; }
  void set_progress(AnswerProgress progress);

 private:
  class Keeper;
  Requests chosen(std::span<const int32_t> items) const;
  // ids: of the requests' items in the split.
  std::vector<SplitResult> evaluate(std::span<const ExpertPlan> plans, const Requests& requests,
                                    std::span<const int32_t> ids);
  void decode_undecided(std::span<const ExpertPlan> plans, const Requests& requests,
                        std::span<const int32_t> ids, const Keeper& keeper,
                        std::vector<SplitResult>* results);

  const Tokenizer& tokenizer_;
  const ModelConfig& config_;
  Requests requests_;
  PopulationForward forward_;
  EvaluationJournal* journal_ = nullptr;
  AnswerProgress progress_;
  int64_t answers_ = 0;  // of the evaluation under way
  Drafts drafts_;        // of the split's items
};

// Bytes that are equal for equal plans.
std::string plan_key(const ExpertPlan& plan);

}  // namespace eep
