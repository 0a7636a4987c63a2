#include "loaders/tasks/requests.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/error.h"
#include "kernels/common/scalar_math.h"
#include "loaders/formats/unicode.h"

namespace eep {
namespace {

// A log-probability that is not a number, or lower than this, counts as this: means stay finite.
constexpr double kLeast = -1e4;

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Characters of a choice; the blank before it is the delimiter and does not count.
double characters(std::string_view choice) {
  if (choice.starts_with(' ')) choice.remove_prefix(1);
  int64_t count = 0;
  for (size_t at = 0; at < choice.size(); at += decode_utf8(choice, at).bytes) ++count;
  return static_cast<double>(std::max<int64_t>(count, 1));
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
  if (eos_.empty() && tokenizer.eos_id() >= 0) eos_.push_back(tokenizer.eos_id());
  PromptBuilder builder;
  for (const Item& item : items_) {
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
                "the answer does not fit the model (expected at most " + std::to_string(max_positions_) +
                    " positions, got " + std::to_string(max_positions_ - room) + " without the prompt)");
  }
  if (static_cast<int64_t>(context.size()) > room) {
    context.erase(context.begin(), context.end() - room);
    ++truncated_;
  }
  std::vector<int32_t> tokens = context;
  tokens.insert(tokens.end(), continuation.begin(), continuation.end());
  for (int32_t token : tokens) {
    if (token >= vocab_size) {
      throw Error(ExitCode::kData, item.where,
                  "the tokenizer knows a token that the model does not (expected 0.." +
                      std::to_string(vocab_size - 1) + ", got " + std::to_string(token) + ")");
    }
  }
  builder->add(tokens, static_cast<int32_t>(context.size()));
  entry->prompt = std::move(context);
  entry->continuations.push_back(std::move(continuation));
  entry->sequences.push_back(sequence_count_++);
}

// With the tokenizer's specials; harness: a text that brings its own beginning of sequence gets no second
// one.
std::vector<int32_t> Requests::encode_whole(const std::string& text) const {
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
  double best = -INFINITY, largest = -INFINITY;
  for (size_t choice = 0; choice < loglik.size(); ++choice) {
    const std::string& scored = one_continuation(task_) ? item.prompt : item.choices[choice];
    const double value =
        task_.metric == Metric::kAccNorm ? loglik[choice] / characters(scored) : loglik[choice];
    largest = std::max(largest, loglik[choice]);
    if (value > best) {  // the first maximum wins
      best = value;
      result.prediction = static_cast<int32_t>(choice);
    }
  }
  result.metric = finite && result.prediction == item.label ? 1 : 0;
  double sum = 0;
  for (double value : loglik) sum += value - largest > -700 ? exponential_double(value - largest) : 0.0;
  result.right_loglik = loglik[static_cast<size_t>(item.label)] - largest - logarithm(sum);
  return result;
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
  const std::optional<double> verdict_now = verdict(item, result.output, ended);
  result.decided = verdict_now.has_value();
  result.metric = verdict_now.value_or(0.0);
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

std::optional<double> Requests::verdict(size_t item, std::span<const int32_t> generated, bool ended) const {
  const std::vector<std::string>& references = items_[item].references;
  if (ended ||
      std::any_of(generated.begin(), generated.end(), [&](int32_t token) { return is_end(token); }) ||
      has_stop(generated)) {
    return score_text(task_.metric, task_.extract, output_text(generated), references);
  }
  return early_verdict(task_.metric, task_.extract, settled_text(generated), references);
}

}  // namespace eep
