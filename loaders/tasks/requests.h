// Requests: a task's items as token sequences for the engine, and the engine's scores back as answers.
//
// Multiple choice follows the `harness` protocol: log-likelihood of each choice behind the prompt. A
// generated answer is first checked by teacher forcing: the first accepted answer and the first stop string
// (without stop strings: the end of sequence) stand behind the prompt. The greedy output equals that answer
// iff the arg-max agrees at each of its tokens; where it parts, the output so far is known exactly, and
// mostly decides the item. What stays undecided is returned as a prefix to decode from.
//
// right_loglik of an item: multiple choice: log p(right) - log sum_choices p(choice), p the probability of
// the whole choice; generation: mean log-probability of the right answer's tokens, the stop included.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/prompts.h"
#include "kernels/score.h"
#include "loaders/tasks/task.h"
#include "loaders/text/tokenizer.h"

namespace eep {

// A log-probability that is not a number, or lower than this, counts as this: means stay finite.
inline constexpr double kLeastLogProbability = -1e4;

struct ItemScore {
  double metric = 0;            // of this item, once decided
  std::vector<double> more;     // the task's other metrics, in its order
  double right_loglik = 0;      // finite; its mean over items is the tie-break of a search
  int32_t prediction = -1;      // multiple choice: the chosen index
  std::vector<int32_t> output;  // generate: what was generated so far (exact greedy tokens)
  // Generation: of each token of the right answer, its stop included. Multiple choice: of every choice.
  std::vector<float> log_probabilities;
  int32_t right = -1;  // multiple choice: the right choice
  bool decided = true;
};

class Requests {
 public:
  // The tokenizer must outlive the object. Items longer than the model's positions are cut from the left
  // (truncated() counts them).
  Requests(const Task& task, std::vector<Item> items, const Tokenizer& tokenizer, const ModelConfig& config);

  const Task& task() const { return task_; }
  const std::vector<Item>& items() const { return items_; }
  const Prompts& prompts() const { return prompts_; }
  // The items as text, for statistics: of every item every token, its answers' last ones too; nothing is
  // shared between items, so a prefix counts as often as items have it.
  Prompts texts() const;
  int64_t truncated() const { return truncated_; }
  // What is to be said of them; "" where none was cut.
  std::string truncation_text(const std::string& split) const;

  // One candidate's scores of prompts().scores -> one ItemScore an item.
  std::vector<ItemScore> judge(std::span<const TokenScore> scores) const;

  // For items that judge left undecided: the tokens of the prompt, and whether `generated` (from the first
  // new token on) settles the item. Generation ends (`ended`) at its limit, at an end of sequence, or as soon
  // as a stop string is complete; the verdict is the score that it has or will have then, whatever follows.
  const std::vector<int32_t>& prompt_tokens(size_t item) const { return entries_[item].prompt; }
  // Generation: the right answer with its stop, as teacher forcing expects it; behind the whole of
  // prompt_tokens.
  const std::vector<int32_t>& right_answer(size_t item) const { return entries_[item].continuations[0]; }
  // All of the task's metrics, the first one first; nothing while one of them is open.
  std::optional<std::vector<double>> verdict(size_t item, std::span<const int32_t> generated,
                                             bool ended) const;
  // The generated text as it is scored: cut at the first stop string and the end of sequence.
  std::string output_text(std::span<const int32_t> generated) const;
  bool has_stop(std::span<const int32_t> generated) const;  // a stop string is complete
  int32_t max_new() const { return task_.max_new; }

 private:
  struct Entry {
    std::vector<int32_t> prompt;
    std::vector<std::vector<int32_t>> continuations;  // of each choice, or the right answer with its stop
    std::vector<size_t> sequences;                    // into sequences_
    size_t stop_after = 0;  // generate: tokens of the right answer until generation ends
  };
  struct Encoded {
    std::vector<int32_t> context, continuation;
  };
  std::vector<int32_t> encode_whole(const std::string& text) const;
  Encoded encode_choice(const std::string& prompt, const std::string& choice) const;
  Encoded encode_answer(const std::string& prompt, const std::string& answer) const;
  void add_sequence(const Item& item, Encoded encoded, int64_t vocab_size, PromptBuilder* builder,
                    Entry* entry);
  std::vector<int32_t> tokens_read(size_t sequence) const;
  size_t tokens_until_end(std::span<const int32_t> generated) const;
  std::string settled_text(std::span<const int32_t> generated) const;
  int32_t choose(Metric metric, const Item& item, std::span<const double> loglik) const;
  double choice_length(Metric metric, const Item& item, size_t choice) const;
  ItemScore judge_choice(const Item& item, const Entry& entry, std::span<const TokenScore> scores) const;
  ItemScore judge_generation(size_t item, std::span<const TokenScore> scores) const;
  bool is_end(int32_t token) const;
  void cut_left(std::vector<int32_t>* context, int64_t room) const;

  Task task_;
  std::vector<ScoreRule> rules_;  // all metrics, the first one first
  std::vector<Item> items_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> eos_;
  int64_t max_positions_;
  std::vector<Entry> entries_;
  Prompts prompts_;
  std::vector<PromptBuilder::Sequence> sequences_;
  size_t sequence_count_ = 0;
  int64_t truncated_ = 0;
};

}  // namespace eep
