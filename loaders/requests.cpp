#include "loaders/requests.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "kernels/scalar_math.h"
#include "loaders/unicode.h"

namespace eep {
namespace {

int64_t code_points(std::string_view text) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size(); at += decode_utf8(text, at).bytes) ++count;
  return count;
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
  size_t sequences = 0;
  for (const Item& item : items_) {
    Entry entry;
    std::vector<std::string> continuations = item.choices;
    if (task_.kind == TaskKind::kGenerate) {
      // As a model is expected to write it: a blank before the answer unless it brings its own, then the
      // first stop.
      const std::string& answer = item.references[0];
      const bool blank = !answer.empty() && answer[0] != ' ' && answer[0] != '\n';
      continuations = {(blank ? " " : "") + answer + (task_.stop.empty() ? "" : task_.stop[0])};
    }
    for (const std::string& continuation : continuations) {
      std::vector<int32_t> context;
      std::vector<int32_t> ids = encode_continuation(item.prompt, continuation, &context);
      if (ids.empty()) throw Error(ExitCode::kData, item.where, "an answer has no tokens");
      if (context.empty()) throw Error(ExitCode::kData, item.where, "the prompt has no tokens");
      // Too long: cut from the left; the continuation must fit.
      const int64_t room =
          max_positions_ - (task_.kind == TaskKind::kGenerate
                                ? std::max<int64_t>(task_.max_new, static_cast<int64_t>(ids.size()))
                                : static_cast<int64_t>(ids.size()));
      if (room < 1) {
        throw Error(ExitCode::kData, item.where,
                    "the answer does not fit the model (expected at most " + std::to_string(max_positions_) +
                        " positions, got " + std::to_string(ids.size()) + " tokens)");
      }
      if (static_cast<int64_t>(context.size()) > room) {
        context.erase(context.begin(), context.end() - room);
        ++truncated_;
      }
      std::vector<int32_t> tokens = context;
      tokens.insert(tokens.end(), ids.begin(), ids.end());
      for (int32_t token : tokens) {
        if (token >= config.vocab_size) {
          throw Error(ExitCode::kData, item.where,
                      "the tokenizer knows a token that the model does not (expected 0.." +
                          std::to_string(config.vocab_size - 1) + ", got " + std::to_string(token) + ")");
        }
      }
      // The last token's own successor is never needed: it need not pass the model.
      builder.add(tokens, static_cast<int32_t>(context.size()));
      entry.prompt = std::move(context);
      entry.continuations.push_back(std::move(ids));
      entry.sequences.push_back(sequences++);
    }
    entries_.push_back(std::move(entry));
  }
  prompts_ = builder.build(&sequences_);
}

// harness: trailing white space of the context moves to the continuation; both are encoded as a whole, and
// the continuation is what lies beyond the context's own ids.
std::vector<int32_t> Requests::encode_continuation(const std::string& context,
                                                   const std::string& continuation,
                                                   std::vector<int32_t>* context_ids) const {
  size_t end = context.size();
  while (end > 0 && (context[end - 1] == ' ' || (context[end - 1] >= '\t' && context[end - 1] <= '\r')))
    --end;
  const std::string head = context.substr(0, end), tail = context.substr(end) + continuation;
  *context_ids = tokenizer_.encode(head, true);
  if (context_ids->empty()) {  // an empty prompt: the beginning (or end) of sequence stands for it
    const int32_t prefix = tokenizer_.bos_id() >= 0 ? tokenizer_.bos_id() : eos_.empty() ? -1 : eos_[0];
    if (prefix >= 0) context_ids->push_back(prefix);
    return tokenizer_.encode(tail, false);
  }
  const std::vector<int32_t> whole = tokenizer_.encode(head + tail, true);
  if (whole.size() <= context_ids->size()) return {};
  return {whole.begin() + static_cast<int64_t>(context_ids->size()), whole.end()};
}

bool Requests::is_end(int32_t token) const {
  return std::find(eos_.begin(), eos_.end(), token) != eos_.end();
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
  for (size_t sequence : entry.sequences) {
    double sum = 0;
    for (int32_t score : sequences_[sequence].scores) {
      sum += static_cast<double>(scores[static_cast<size_t>(score)].log_probability);
    }
    loglik.push_back(sum);
  }
  ItemScore result;
  double best = -INFINITY, largest = -INFINITY;
  for (size_t choice = 0; choice < loglik.size(); ++choice) {
    const double value = task_.metric == Metric::kAccNorm
                             ? loglik[choice] / static_cast<double>(code_points(item.choices[choice]))
                             : loglik[choice];
    largest = std::max(largest, loglik[choice]);
    if (value > best) {  // the first maximum wins
      best = value;
      result.prediction = static_cast<int32_t>(choice);
    }
  }
  result.metric = result.prediction == item.label ? 1 : 0;
  // The right choice among the choices: what accuracy is made of.
  double sum = 0;
  for (double value : loglik) sum += value - largest > -700 ? exponential_double(value - largest) : 0.0;
  result.right_loglik = loglik[static_cast<size_t>(item.label)] - largest - logarithm(sum);
  return result;
}

ItemScore Requests::judge_generation(size_t item, std::span<const TokenScore> scores) const {
  const Entry& entry = entries_[item];
  const std::vector<int32_t>& right = entry.continuations[0];
  const std::vector<int32_t>& indices = sequences_[entry.sequences[0]].scores;
  ItemScore result;
  double sum = 0;
  bool parted = false;
  for (size_t i = 0; i < indices.size(); ++i) {
    const TokenScore& score = scores[static_cast<size_t>(indices[i])];
    sum += static_cast<double>(score.log_probability);
    if (parted || static_cast<int32_t>(result.output.size()) >= task_.max_new) continue;
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
  const std::string text = tokenizer_.decode(generated, true);
  return std::any_of(task_.stop.begin(), task_.stop.end(),
                     [&](const std::string& stop) { return text.find(stop) != std::string::npos; });
}

std::optional<double> Requests::verdict(size_t item, std::span<const int32_t> generated, bool ended) const {
  size_t count = 0;
  while (count < generated.size() && !is_end(generated[count])) ++count;
  ended = ended || count < generated.size();
  std::string text;
  for (int32_t token : generated.subspan(0, count)) text += tokenizer_.token_bytes(token);
  for (const std::string& stop : task_.stop) ended = ended || text.find(stop) != std::string::npos;
  const std::vector<std::string>& references = items_[item].references;
  if (ended) return score_text(task_.metric, task_.extract, output_text(generated), references);
  // A stop string that has begun could cut the text shorter than it is now; only its own completion can, so
  // leave that part open.
  size_t safe = text.size();
  for (const std::string& stop : task_.stop) {
    for (size_t length = std::min(stop.size() - 1, text.size()); length > 0; --length) {
      if (text.compare(text.size() - length, length, stop, 0, length) == 0) {
        safe = std::min(safe, text.size() - length);
        break;
      }
    }
  }
  return early_verdict(task_.metric, task_.extract, std::string_view(text).substr(0, safe), references);
}

}  // namespace eep
