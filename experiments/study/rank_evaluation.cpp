#include "experiments/study/rank_evaluation.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <utility>

#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"

namespace eep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kTellPeriod = 0.2;  // seconds between messages of how far a rank is

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

WorkCounts difference(const WorkCounts& after, const WorkCounts& before) {
  WorkCounts work;
  for (const auto count :
       {&WorkCounts::tokens_computed, &WorkCounts::tokens_asked, &WorkCounts::merged_experts,
        &WorkCounts::merge_bytes, &WorkCounts::expert_bytes, &WorkCounts::tokens_kept,
        &WorkCounts::decode_steps, &WorkCounts::drafted, &WorkCounts::accepted})
    work.*count = after.*count - before.*count;
  work.router.tiny_sums = after.router.tiny_sums - before.router.tiny_sums;
  work.router.negative_sums = after.router.negative_sums - before.router.negative_sums;
  return work;
}

// A rank's answers over its parts, one after the other, from what each tells of itself.
class PartsProgress {
 public:
  PartsProgress(int32_t number, std::function<void(const RankProgress&)> tell) : tell_(std::move(tell)) {
    before_.number = now_.number = number;
  }
  void begin(int64_t answers) {
    before_ = now_;
    answers_ = answers;
  }
  void add(bool decoding, int64_t done, int64_t total) {
    now_.scored = before_.scored + (decoding ? answers_ : done);
    now_.decoded = before_.decoded + (decoding ? done : 0);
    now_.open = before_.open + (decoding ? total : 0);
    tell_(now_);
  }
  void end() {
    now_.scored = before_.scored + answers_;
    now_.decoded = now_.open;
    tell_(now_);
  }

 private:
  std::function<void(const RankProgress&)> tell_;
  RankProgress before_, now_;
  int64_t answers_ = 0;  // of the part under way
};

// While it lives, a task's progress is told elsewhere.
class Diverted {
 public:
  Diverted(TaskContext& task, const AnswerProgress& progress) : task_(task), before_(task.progress()) {
    task_.set_progress(progress);
  }
  ~Diverted() { task_.set_progress(before_); }
  Diverted(const Diverted&) = delete;
  Diverted& operator=(const Diverted&) = delete;

  const AnswerProgress& before() const { return before_; }

 private:
  TaskContext& task_;
  AnswerProgress before_;
};

}  // namespace

void check_same_as_leader(const std::string& what, const std::string& wanted, const std::string& found) {
  if (wanted == found) return;
  throw Error(ExitCode::kData, what, "differs from rank 0's" + expected_got(wanted, found),
              "every rank must see the same files");
}

struct RankEvaluation::Evaluation {
  int32_t combination = 0;
  ModelContext& model;
  TaskContext& task;
  Split set = Split::kTrain;
  std::span<const ExpertPlan> plans;
  std::vector<int32_t> items;  // of the set
  bool all_items = true;
  SharedOrder order;
  std::vector<std::vector<WorkPart>> parts;  // [ranks]
  std::vector<double> cost, seconds;         // [ranks]
  std::vector<SplitResult> results;          // [plans]
  int missing = 0;                           // ranks whose results are not here
  std::vector<RankProgress> progress;        // [ranks]
  AnswerProgress shown;                      // of the whole
  RankProgress told{};                       // there

  int64_t answers_of(const WorkPart& part) const {
    return static_cast<int64_t>(part.end - part.first) * (part.item_end - part.item_begin);
  }

  std::vector<ExpertPlan> plans_of(const WorkPart& part) const {
    std::vector<ExpertPlan> own;
    for (size_t at = part.first; at < part.end; ++at) own.push_back(plans[order.plan[at]]);
    return own;
  }
  // Empty: all of the set.
  std::vector<int32_t> items_of(const WorkPart& part) const {
    if (all_items && part.item_begin == 0 && part.item_end == static_cast<int64_t>(items.size())) return {};
    return {items.begin() + part.item_begin, items.begin() + part.item_end};
  }
};

std::vector<SplitResult> RankEvaluation::evaluate(int32_t combination, ModelContext& model, TaskContext& task,
                                                  Split set, std::span<const ExpertPlan> plans,
                                                  std::span<const int32_t> items) {
  Evaluation evaluation{
      combination, model, task, set, plans,          {items.begin(), items.end()}, items.empty(), {}, {}, {},
      {},          {},    0,    {},  task.progress()};
  if (evaluation.all_items) {
    evaluation.items.resize(task.evaluator(set).requests().items().size());
    std::iota(evaluation.items.begin(), evaluation.items.end(), 0);
  }
  evaluation.order = order_for_sharing(model.config(), plans);
  const size_t ranks = speeds_.speeds().size();
  evaluation.parts =
      divide_work(evaluation.order.cost, static_cast<int64_t>(evaluation.items.size()), speeds_.speeds());
  evaluation.cost.resize(ranks, 0.0);
  evaluation.seconds.resize(ranks, 0.0);
  evaluation.results.resize(plans.size());
  evaluation.progress.resize(ranks);
  for (SplitResult& result : evaluation.results) result.items.resize(evaluation.items.size());
  for (size_t rank = 0; rank < ranks; ++rank) {
    for (const WorkPart& part : evaluation.parts[rank]) evaluation.cost[rank] += part.cost;
  }
  ++number_;
  EvaluationJournal* const journal = task.journal();
  try {
    for (size_t rank = 1; rank < ranks; ++rank) send_work(evaluation, static_cast<int>(rank));
    if (journal != nullptr) journal->set_tributary([&] { keep_waiting_records(journal); });
    compute_own(evaluation);
    await_results(evaluation);
  } catch (...) {  // what the others have made so far is kept
    if (journal != nullptr) {
      journal->set_tributary({});
      keep_waiting_records(journal);
      journal->flush();
    }
    throw;
  }
  if (journal != nullptr) journal->set_tributary({});
  speeds_.measured(evaluation.cost, evaluation.seconds);
  for (SplitResult& result : evaluation.results) result.sum_up(task.task());
  return std::move(evaluation.results);
}

void RankEvaluation::send_work(const Evaluation& evaluation, int rank) {
  const std::vector<WorkPart>& parts = evaluation.parts[static_cast<size_t>(rank)];
  if (parts.empty()) return;
  RankWork work;
  work.number = number_;
  work.combination = evaluation.combination;
  work.set = static_cast<uint8_t>(evaluation.set);
  work.model = evaluation.model.hash();
  work.data = evaluation.task.items_hash_of(evaluation.set);
  const EvaluationJournal* const journal = evaluation.task.journal();
  for (const WorkPart& part : parts) {
    work.parts.push_back({evaluation.plans_of(part), evaluation.items_of(part)});
    if (journal == nullptr || !journal->knows_any()) continue;
    for (const EvaluationJournal::Key& key :
         evaluation.task.evaluator(evaluation.set).keys(work.parts.back().plans, work.parts.back().items))
      work.known += journal->known_records(key);
  }
  ranks_.send(rank_of(rank), kWorkTag, work_bytes(work));
}

void RankEvaluation::compute_own(Evaluation& evaluation) {
  const Clock::time_point start = Clock::now();
  PartsProgress own(number_, [&](const RankProgress& progress) {
    while (const auto message = ranks_.take_waiting(kProgressTag)) take(evaluation, *message);
    note_progress(evaluation, 0, progress);
  });
  const Diverted diverted(
      evaluation.task, [&](bool decoding, int64_t done, int64_t total) { own.add(decoding, done, total); });
  std::vector<std::vector<std::vector<ItemScore>>> made;
  for (const WorkPart& part : evaluation.parts[0]) {
    own.begin(evaluation.answers_of(part));
    const std::vector<ExpertPlan> plans = evaluation.plans_of(part);
    std::vector<std::vector<ItemScore>>& lists = made.emplace_back();
    for (SplitResult& result : evaluation.task.score_here(evaluation.set, plans, evaluation.items_of(part)))
      lists.push_back(std::move(result.items));
    own.end();
  }
  evaluation.seconds[0] = seconds_since(start);
  put_together(evaluation, 0, made);
}

void RankEvaluation::await_results(Evaluation& evaluation) {
  for (size_t rank = 1; rank < evaluation.parts.size(); ++rank)
    evaluation.missing += evaluation.parts[rank].empty() ? 0 : 1;
  while (evaluation.missing > 0) take(evaluation, ranks_.receive({kResultTag, kKeptTag, kProgressTag}));
}

// What is shown is the whole's: scoring until all ranks have scored, then decoding.
void RankEvaluation::note_progress(Evaluation& evaluation, int rank, const RankProgress& progress) {
  if (progress.number != number_) return;
  evaluation.progress.at(static_cast<size_t>(rank)) = progress;
  if (!evaluation.shown) return;
  RankProgress all;
  for (const RankProgress& one : evaluation.progress) {
    all.scored += one.scored;
    all.decoded += one.decoded;
    all.open += one.open;
  }
  if (all == evaluation.told) return;  // an end is told once
  evaluation.told = all;
  const auto whole = static_cast<int64_t>(evaluation.plans.size() * evaluation.items.size());
  if (all.scored < whole || all.open == 0) {
    evaluation.shown(false, all.scored, whole);
  } else {
    evaluation.shown(true, all.decoded, all.open);
  }
}

void RankEvaluation::take(Evaluation& evaluation, const RankMessage& message) {
  if (message.tag == kKeptTag) {
    EvaluationJournal* const journal = evaluation.task.journal();
    if (journal == nullptr) return;
    journal->add_records(message.bytes);
    journal->flush();
    return;
  }
  const int rank = (message.from - first_) / step_;
  if (message.tag == kProgressTag) return note_progress(evaluation, rank, progress_of(message.bytes));
  const RankResult result = result_of(message.bytes);
  if (result.number != number_) return;
  evaluation.seconds.at(static_cast<size_t>(rank)) = result.seconds;
  evaluation.task.add_work(result.work);
  put_together(evaluation, rank, result.items);
  --evaluation.missing;
}

void RankEvaluation::put_together(Evaluation& evaluation, int rank,
                                  const std::vector<std::vector<std::vector<ItemScore>>>& items) {
  const std::vector<WorkPart>& parts = evaluation.parts[static_cast<size_t>(rank)];
  const auto wrong = [&] {
    throw Error(ExitCode::kRuntime, ranks_.name(rank_of(rank)),
                "returned another number of scores than it was asked for");
  };
  if (items.size() != parts.size()) wrong();
  for (size_t at = 0; at < parts.size(); ++at) {
    const WorkPart& part = parts[at];
    if (items[at].size() != part.end - part.first) wrong();
    for (size_t plan = 0; plan < items[at].size(); ++plan) {
      const std::vector<ItemScore>& made = items[at][plan];
      if (static_cast<int64_t>(made.size()) != part.item_end - part.item_begin) wrong();
      SplitResult& result = evaluation.results[evaluation.order.plan[part.first + plan]];
      std::copy(made.begin(), made.end(), result.items.begin() + part.item_begin);
    }
  }
}

// Records that have come while this rank computes; other messages wait.
void RankEvaluation::keep_waiting_records(EvaluationJournal* journal) {
  while (const auto message = ranks_.take_waiting(kKeptTag)) journal->add_records(message->bytes);
}

RankResult compute_work(const RankWork& work, int leader, ModelContext& model, TaskContext& task,
                        Ranks& ranks) {
  check_same_as_leader("the model", work.model, model.hash());
  const auto set = static_cast<Split>(work.set);
  check_same_as_leader("the data", work.data, task.items_hash_of(set));
  RankResult result;
  result.number = work.number;
  Clock::time_point told{};
  PartsProgress own(work.number, [&](const RankProgress& progress) {
    if (seconds_since(told) < kTellPeriod) return;
    told = Clock::now();
    ranks.send(leader, kProgressTag, progress_bytes(progress));
  });
  const Diverted diverted(
      task, [&](bool decoding, int64_t done, int64_t total) { own.add(decoding, done, total); });
  EvaluationJournal journal([&](std::string records) { ranks.send(leader, kKeptTag, std::move(records)); });
  journal.learn(work.known);
  const TaskContext::Journaled journaled(task, &journal);
  const WorkCounts before = task.evaluator(set).work();
  const Clock::time_point start = Clock::now();
  for (const RankWorkPart& part : work.parts) {
    const size_t items =
        part.items.empty() ? task.evaluator(set).requests().items().size() : part.items.size();
    own.begin(static_cast<int64_t>(part.plans.size() * items));
    std::vector<std::vector<ItemScore>>& lists = result.items.emplace_back();
    for (SplitResult& made : task.score_here(set, part.plans, part.items))
      lists.push_back(std::move(made.items));
    told = {};
    own.end();
  }
  result.seconds = seconds_since(start);
  result.work = difference(task.evaluator(set).work(), before);
  return result;
}

}  // namespace eep
