#include "loaders/tasks/requests.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "engine/prompt_texts.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"
#include "kernels/common/scalar_math.h"
#include "loaders/formats/unicode.h"

namespace eep {
namespace {

constexpr double kLeast = kLeastLogProbability;

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int64_t character_count(std::string_view text) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size(); at += decode_utf8(text, at).bytes) ++count;
  return count;
}

// "<0x0A>": a byte on its own, which the bytes after it may turn into something else.
bool is_byte_token(std::string_view spelling) {
  return spelling.size() == 6 && spelling.starts_with("<0x") && spelling.back() == '>';
}

}  // namespace

Requests::Requests(const Task& task, std::vector<Item> items, const Tokenizer& tokenizer,
                   const ModelConfig& config)
    : task_(task),
      items_(std::move(items)),
      tokenizer_(tokenizer),
      eos_(config.eos_token_ids),
      max_positions_(config.max_positions) {
  rules_.push_back({task_.metric_as, task_.metric, task_.extract});
  rules_.insert(rules_.end(), task_.more.begin(), task_.more.end());
  if (task_.max_length > 0) max_positions_ = std::min<int64_t>(max_positions_, task_.max_length);
  if (eos_.empty() && tokenizer.eos_id() >= 0) eos_.push_back(tokenizer.eos_id());
  PromptBuilder builder;
  for (const Item& item : items_) {
    check_interrupted();
    Entry entry;
    if (task_.kind == TaskKind::kGenerate) {
      add_sequence(item, encode_answer(item.prompt, item.references[0]), config.vocab_size, &builder, &entry);
      entry.stop_after = tokens_until_end(entry.continuations[0]);
    } else {
      for (const std::string& choice : item.choices) {
        const bool swapped = one_continuation(task_);
        add_sequence(item, encode_choice(swapped ? choice : item.prompt, swapped ? item.prompt : choice),
                     config.vocab_size, &builder, &entry);
      }
    }
    entries_.push_back(std::move(entry));
  }
  prompts_ = builder.build(&sequences_);
}

void Requests::add_sequence(const Item& item, Encoded encoded, int64_t vocab_size, PromptBuilder* builder,
                            Entry* entry) {
  auto& [context, continuation] = encoded;
  if (continuation.empty()) throw Error(ExitCode::kData, item.where, "an answer has no tokens");
  if (context.empty()) throw Error(ExitCode::kData, item.where, "the prompt has no tokens");
  // Too long: cut from the left; the continuation must fit. The last token of a choice is never read by the
  // model, so it needs no position.
  const int64_t length = static_cast<int64_t>(continuation.size());
  const int64_t room = task_.kind == TaskKind::kGenerate
                           ? max_positions_ - std::max<int64_t>(task_.max_new, length)
                           : max_positions_ - (length - 1);
  if (room < 1) {
    throw Error(ExitCode::kData, item.where,
                "the answer does not fit the model" +
                    expected_got("at most " + std::to_string(max_positions_) + " positions",
                                 std::to_string(max_positions_ - room) + " without the prompt"));
  }
  if (static_cast<int64_t>(context.size()) > room) {
    cut_left(&context, room);
    ++truncated_;
  }
  std::vector<int32_t> tokens = context;
  tokens.insert(tokens.end(), continuation.begin(), continuation.end());
  for (int32_t token : tokens) {
    if (token >= vocab_size) {
      throw Error(ExitCode::kData, item.where,
                  "the tokenizer knows a token that the model does not" +
                      expected_got("0.." + std::to_string(vocab_size - 1), token));
    }
  }
  builder->add(tokens, static_cast<int32_t>(context.size()));
  entry->prompt = std::move(context);
  entry->continuations.push_back(std::move(continuation));
  entry->sequences.push_back(sequence_count_++);
}

// eep: the tokenizer's own beginning of sequence stays, as it is added to a text that is cut already.
void Requests::cut_left(std::vector<int32_t>* context, int64_t room) const {
  const bool begins = task_.protocol == "eep" && room > 1 && context->front() == tokenizer_.bos_id();
  const int64_t kept = begins ? 1 : 0;
  context->erase(context->begin() + kept, context->end() - (room - kept));
}

// With the tokenizer's specials, which a chat template has written already; harness: a text that brings its
// own beginning of sequence gets no second one.
std::vector<int32_t> Requests::encode_whole(const std::string& text) const {
  if (task_.chat) return tokenizer_.encode(text, false);
  const bool own_begin = task_.protocol == "harness" && tokenizer_.bos_id() >= 0 &&
                         text.starts_with(tokenizer_.token_text(tokenizer_.bos_id()));
  return tokenizer_.encode(text, !own_begin);
}

// harness: trailing white space of the context moves to the continuation; both are encoded as a whole, and
// the continuation is what lies beyond the context's own ids. Behind an empty context the beginning (else the
// end) of sequence stands for it.
Requests::Encoded Requests::encode_choice(const std::string& prompt, const std::string& choice) const {
  size_t end = prompt.size();
  while (end > 0 && is_blank(prompt[end - 1])) --end;
  const std::string head = prompt.substr(0, end), tail = prompt.substr(end) + choice;
  Encoded encoded;
  encoded.context = encode_whole(head);
  if (encoded.context.empty()) {
    encoded.continuation = tokenizer_.encode(tail, false);
    const int32_t prefix = tokenizer_.bos_id() >= 0 ? tokenizer_.bos_id() : eos_.empty() ? -1 : eos_[0];
    if (prefix < 0) return encoded;
    encoded.context.push_back(prefix);
    if (!encoded.continuation.empty() && encoded.continuation[0] == prefix)
      encoded.continuation.erase(encoded.continuation.begin());
    return encoded;
  }
  const std::vector<int32_t> whole = encode_whole(head + tail);
  if (whole.size() > encoded.context.size())
    encoded.continuation.assign(whole.begin() + static_cast<int64_t>(encoded.context.size()), whole.end());
  return encoded;
}

// The prompt alone is what a model generates from. The answer as a model is expected to write it: a blank
// before it unless there is one, then the first stop string. It is a guess that saves decoding; scores do not
// depend on it.
Requests::Encoded Requests::encode_answer(const std::string& prompt, const std::string& answer) const {
  Encoded encoded;
  encoded.context = encode_whole(prompt);
  if (encoded.context.empty()) {
    const int32_t prefix = tokenizer_.bos_id() >= 0 ? tokenizer_.bos_id() : eos_.empty() ? -1 : eos_[0];
    if (prefix >= 0) encoded.context.push_back(prefix);
  }
  const bool blank = !answer.empty() && !is_blank(answer[0]) && !prompt.empty() && !is_blank(prompt.back());
  const std::string text = (blank ? " " : "") + answer + (task_.stop.empty() ? "" : task_.stop[0]);
  const std::vector<int32_t> whole = encode_whole(prompt + text);
  const size_t length = encoded.context.size();
  if (whole.size() > length && std::equal(encoded.context.begin(), encoded.context.end(), whole.begin())) {
    encoded.continuation.assign(whole.begin() + static_cast<int64_t>(length), whole.end());
  } else {
    encoded.continuation = tokenizer_.encode(text, false);
  }
  if (task_.stop.empty() && !eos_.empty()) encoded.continuation.push_back(eos_[0]);
  return encoded;
}

bool Requests::is_end(int32_t token) const {
  return std::find(eos_.begin(), eos_.end(), token) != eos_.end();
}

// All but the last token, which is a target alone.
std::vector<int32_t> Requests::tokens_read(size_t sequence) const {
  std::vector<int32_t> tokens;
  const auto last = static_cast<size_t>(sequences_[sequence].last_row);
  auto end = static_cast<std::ptrdiff_t>(last) + 1;
  for (int32_t at = prompts_.node_of_row[last]; at >= 0;) {
    const PromptNode& node = prompts_.nodes[static_cast<size_t>(at)];
    tokens.insert(tokens.begin(), prompts_.tokens.begin() + node.row_begin, prompts_.tokens.begin() + end);
    at = node.parent;
    if (at < 0) break;
    const PromptNode& parent = prompts_.nodes[static_cast<size_t>(at)];
    end = parent.row_begin + parent.row_count;
  }
  return tokens;
}

Prompts Requests::texts() const {
  std::vector<Prompts> parts;
  for (const Entry& entry : entries_) {
    PromptBuilder builder;
    for (size_t i = 0; i < entry.sequences.size(); ++i) {
      std::vector<int32_t> tokens = tokens_read(entry.sequences[i]);
      if (std::ssize(tokens) < max_positions_) tokens.push_back(entry.continuations[i].back());
      builder.add(tokens, 1, true);
    }
    parts.push_back(builder.build(nullptr));
  }
  return prompts_apart(parts);
}

std::string Requests::truncation_text(const std::string& split) const {
  if (truncated_ == 0) return {};
  return "split " + split + ": " + std::to_string(truncated_) + " of " + std::to_string(sequence_count_) +
         " sequences were cut from the left to fit the model's " + std::to_string(max_positions_) +
         " positions";
}

std::vector<ItemScore> Requests::judge(std::span<const TokenScore> scores) const {
  std::vector<ItemScore> result;
  for (size_t item = 0; item < items_.size(); ++item) {
    result.push_back(task_.kind == TaskKind::kMultipleChoice
                         ? judge_choice(items_[item], entries_[item], scores)
                         : judge_generation(item, scores));
  }
  return result;
}

ItemScore Requests::judge_choice(const Item& item, const Entry& entry,
                                 std::span<const TokenScore> scores) const {
  std::vector<double> loglik;
  bool finite = true;  // of the right choice
  for (size_t choice = 0; choice < entry.sequences.size(); ++choice) {
    double sum = 0;
    for (int32_t score : sequences_[entry.sequences[choice]].scores) {
      const double value = static_cast<double>(scores[static_cast<size_t>(score)].log_probability);
      if (!std::isfinite(value) && static_cast<int32_t>(choice) == item.label) finite = false;
      sum += value > kLeast ? value : kLeast;
    }
    loglik.push_back(sum);
  }
  ItemScore result;
  result.log_probabilities.assign(loglik.begin(), loglik.end());
  result.right = item.label;
  const auto is_right = [&](int32_t choice) {
    return choice == item.label || std::find(item.also.begin(), item.also.end(), choice) != item.also.end();
  };
  result.prediction = choose(task_.metric, item, loglik);
  result.metric = finite && is_right(result.prediction) ? 1 : 0;
  for (const ScoreRule& rule : task_.more)
    result.more.push_back(finite && is_right(choose(rule.metric, item, loglik)) ? 1 : 0);
  const double largest = *std::max_element(loglik.begin(), loglik.end());
  const auto probability = [&](double value) {
    return value - largest > -700 ? exponential_double(value - largest) : 0.0;
  };
  double sum = 0, right = 0;
  for (size_t choice = 0; choice < loglik.size(); ++choice) {
    sum += probability(loglik[choice]);
    if (is_right(static_cast<int32_t>(choice))) right += probability(loglik[choice]);
  }
  result.right_loglik = (item.also.empty() || right <= 0 ? loglik[static_cast<size_t>(item.label)] - largest
                                                         : logarithm(right)) -
                        logarithm(sum);
  return result;
}

// What a log-likelihood is divided by: of the choice as the task writes it. Where the task says no delimiter,
// a blank at the beginning is one.
double Requests::choice_length(Metric metric, const Item& item, size_t choice) const {
  if (metric == Metric::kAcc || metric == Metric::kMacroF1) return 1;
  std::string_view text = one_continuation(task_) ? item.prompt : item.choices[choice];
  if (task_.target_delimiter && !one_continuation(task_)) {
    text.remove_prefix(task_.target_delimiter->size());
  } else if (text.starts_with(' ')) {
    text.remove_prefix(1);
  }
  const int64_t length = metric == Metric::kAccBytes ? std::ssize(text) : character_count(text);
  return static_cast<double>(std::max<int64_t>(length, 1));
}

// The first maximum wins.
int32_t Requests::choose(Metric metric, const Item& item, std::span<const double> loglik) const {
  int32_t chosen = 0;
  double best = -INFINITY;
  for (size_t choice = 0; choice < loglik.size(); ++choice) {
    const double value = loglik[choice] / choice_length(metric, item, choice);
    if (value <= best) continue;
    best = value;
    chosen = static_cast<int32_t>(choice);
  }
  return chosen;
}

ItemScore Requests::judge_generation(size_t item, std::span<const TokenScore> scores) const {
  const Entry& entry = entries_[item];
  const std::vector<int32_t>& right = entry.continuations[0];
  const std::vector<int32_t>& indices = sequences_[entry.sequences[0]].scores;
  const size_t limit = std::min(entry.stop_after, static_cast<size_t>(task_.max_new));
  ItemScore result;
  double sum = 0;
  bool parted = false;
  for (size_t i = 0; i < indices.size(); ++i) {
    const TokenScore& score = scores[static_cast<size_t>(indices[i])];
    const double value = static_cast<double>(score.log_probability);
    sum += value > kLeast ? value : kLeast;
    result.log_probabilities.push_back(static_cast<float>(value > kLeast ? value : kLeast));
    if (parted || result.output.size() >= limit) continue;
    result.output.push_back(score.argmax);
    parted = score.argmax != right[i];
  }
  result.right_loglik = sum / static_cast<double>(indices.size());
  const bool ended = static_cast<int32_t>(result.output.size()) >= task_.max_new;
  const std::optional<std::vector<double>> verdict_now = verdict(item, result.output, ended);
  result.decided = verdict_now.has_value();
  if (!verdict_now) return result;
  result.metric = verdict_now->front();
  result.more.assign(verdict_now->begin() + 1, verdict_now->end());
  return result;
}

std::string Requests::output_text(std::span<const int32_t> generated) const {
  size_t count = 0;
  while (count < generated.size() && !is_end(generated[count])) ++count;
  std::string text = tokenizer_.decode(generated.subspan(0, count), true);
  for (const std::string& stop : task_.stop) text = text.substr(0, text.find(stop));
  return text;
}

bool Requests::has_stop(std::span<const int32_t> generated) const {
  if (task_.stop.empty()) return false;
  const std::string text = tokenizer_.decode(generated, true);
  return std::any_of(task_.stop.begin(), task_.stop.end(),
                     [&](const std::string& stop) { return text.find(stop) != std::string::npos; });
}

size_t Requests::tokens_until_end(std::span<const int32_t> generated) const {
  for (size_t count = 1; count < generated.size(); ++count) {
    if (is_end(generated[count - 1]) || has_stop(generated.subspan(0, count))) return count;
  }
  return generated.size();
}

// What every longer output's text begins with: without the bytes that may become another character, and
// without what may become a stop string.
std::string Requests::settled_text(std::span<const int32_t> generated) const {
  while (!generated.empty() &&
         (tokenizer_.is_special(generated.back()) || is_byte_token(tokenizer_.token_text(generated.back()))))
    generated = generated.subspan(0, generated.size() - 1);
  std::string text = tokenizer_.decode(generated, true);
  while (text.ends_with("\ufffd")) text.resize(text.size() - 3);
  size_t settled = text.size();
  for (const std::string& stop : task_.stop) {
    for (size_t length = std::min(stop.size() - 1, text.size()); length > 0; --length) {
      if (text.compare(text.size() - length, length, stop, 0, length) == 0) {
        settled = std::min(settled, text.size() - length);
        break;
      }
    }
  }
  return text.substr(0, settled);
}

std::optional<std::vector<double>> Requests::verdict(size_t item, std::span<const int32_t> generated,
                                                     bool ended) const {
  const std::vector<std::string>& references = items_[item].references;
  const bool whole =
      ended ||
      std::any_of(generated.begin(), generated.end(), [&](int32_t token) { return is_end(token); }) ||
      has_stop(generated);
  const std::string text = whole ? output_text(generated) : settled_text(generated);
  std::vector<double> values;
  for (const ScoreRule& rule : rules_) {
    const std::optional<double> value = whole ? score_text(rule.metric, rule.extract, text, references)
                                              : early_verdict(rule.metric, rule.extract, text, references);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

}  // namespace eep
