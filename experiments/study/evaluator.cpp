#include "experiments/study/evaluator.h"

#include <xxhash.h>

#include <numeric>

namespace eep {

std::string plan_key(const ExpertPlan& plan) {
  std::string key;
  const auto add = [&](const void* data, size_t bytes) { key.append(static_cast<const char*>(data), bytes); };
  add(&plan.top_k, sizeof plan.top_k);
  add(&plan.router_space, sizeof plan.router_space);
  for (const PlanGroup& group : plan.groups) {
    const size_t layers = group.layers.size();
    add(&layers, sizeof layers);
    add(group.layers.data(), layers * sizeof(int32_t));
    add(&group.kept, sizeof group.kept);
    add(group.router_mapping.data(), group.router_mapping.size() * sizeof(float));
    add(group.expert_merging.data(), group.expert_merging.size() * sizeof(float));
    if (group.skip_below.empty()) continue;
    add(&layers, sizeof layers);
    add(group.skip_below.data(), layers * sizeof(float));
  }
  return key;
}

namespace {

EvaluationJournal::Key hash_of(const std::string& bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

// What is asked of every plan.
EvaluationJournal::Key prompts_key(const Prompts& prompts) {
  std::string bytes;
  const auto add = [&](const auto& values) {
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
    bytes += '\n';
  };
  add(prompts.tokens);
  add(prompts.positions);
  add(prompts.scores);
  return hash_of(bytes);
}

// The identities of plans' evaluations on these requests, for journals.
std::vector<EvaluationJournal::Key> evaluation_keys(std::span<const ExpertPlan> plans,
                                                    const Requests& requests) {
  const EvaluationJournal::Key prompts = prompts_key(requests.prompts());
  std::vector<EvaluationJournal::Key> keys;
  for (const ExpertPlan& plan : plans) {
    const EvaluationJournal::Key key = hash_of(plan_key(plan));
    keys.emplace_back(key.first ^ prompts.first, key.second ^ prompts.second);
  }
  return keys;
}

}  // namespace

// The journal's view of one evaluation; without a journal it knows nothing and keeps nothing.
class SplitEvaluator::Keeper final : public ScoreKeeper {
 public:
  Keeper(EvaluationJournal* journal, std::span<const ExpertPlan> plans, const Requests& requests)
      : journal_(journal) {
    if (journal != nullptr) keys_ = evaluation_keys(plans, requests);
  }
  explicit operator bool() const { return journal_ != nullptr; }

  bool known(size_t plan, int32_t begin, std::span<TokenScore> scores) override {
    return journal_->known_scores(keys_[plan], begin, scores);
  }
  void made(size_t plan, int32_t begin, std::span<const TokenScore> scores) override {
    journal_->add_scores(keys_[plan], begin, scores);
  }
  void chunk_done() override { journal_->flush(); }

  const std::vector<int32_t>* answer(size_t plan, size_t item) const {
    return journal_ == nullptr ? nullptr : journal_->known_answer(keys_[plan], static_cast<int32_t>(item));
  }
  void keep_answer(size_t plan, size_t item, std::span<const int32_t> tokens) const {
    if (journal_ == nullptr) return;
    journal_->add_answer(keys_[plan], static_cast<int32_t>(item), tokens);
    journal_->flush();
  }

 private:
  EvaluationJournal* journal_;
  std::vector<EvaluationJournal::Key> keys_;  // [plans]
};

void SplitResult::sum_up(const Task& task) {
  n = static_cast<int32_t>(items.size());
  score = loglik = 0;
  for (const ItemScore& item : items) {
    score += item.metric;
    loglik += item.right_loglik;
  }
  score /= n;
  loglik /= n;
  more.assign(items.empty() ? 0 : items[0].more.size(), 0.0);
  for (size_t i = 0; i < more.size(); ++i) {
    for (const ItemScore& item : items) more[i] += item.more.at(i);
    more[i] /= n;
    if (task.more.at(i).metric != Metric::kMacroF1) continue;
    std::vector<int32_t> chosen, right;
    for (const ItemScore& item : items) {
      chosen.push_back(item.prediction);
      right.push_back(item.right);
    }
    more[i] = macro_f1(chosen, right, task.choices.size());
  }
}

std::vector<double> SplitResult::metrics(size_t number) const {
  if (number == 0) return metrics();
  std::vector<double> values;
  for (const ItemScore& item : items) values.push_back(item.more.at(number - 1));
  return values;
}

std::vector<double> SplitResult::metrics() const {
  std::vector<double> values;
  for (const ItemScore& item : items) values.push_back(item.metric);
  return values;
}

SplitEvaluator::SplitEvaluator(const Weights& weights, size_t memory, const Task& task,
                               std::vector<Item> items, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      config_(weights.config()),
      requests_(task, std::move(items), tokenizer, weights.config()),
      forward_(weights, memory) {}

void SplitEvaluator::set_progress(AnswerProgress progress) {
  progress_ = std::move(progress);
  forward_.set_progress([this](double share) {
    if (progress_) progress_(false, static_cast<int64_t>(share * static_cast<double>(answers_)), answers_);
  });
}

std::vector<SplitResult> SplitEvaluator::evaluate(std::span<const ExpertPlan> plans) {
  std::vector<int32_t> ids(requests_.items().size());
  std::iota(ids.begin(), ids.end(), 0);
  return evaluate(plans, requests_, ids);
}

std::vector<SplitResult> SplitEvaluator::evaluate(std::span<const ExpertPlan> plans,
                                                  std::span<const int32_t> items) {
  return evaluate(plans, chosen(items), items);
}

Requests SplitEvaluator::chosen(std::span<const int32_t> items) const {
  std::vector<Item> chosen;
  for (const int32_t item : items) chosen.push_back(requests_.items()[static_cast<size_t>(item)]);
  return Requests(requests_.task(), std::move(chosen), tokenizer_, config_);
}

std::vector<EvaluationJournal::Key> SplitEvaluator::keys(std::span<const ExpertPlan> plans,
                                                         std::span<const int32_t> items) const {
  return items.empty() ? evaluation_keys(plans, requests_) : evaluation_keys(plans, chosen(items));
}

std::vector<SplitResult> SplitEvaluator::evaluate(std::span<const ExpertPlan> plans, const Requests& requests,
                                                  std::span<const int32_t> ids) {
  Keeper keeper(journal_, plans, requests);
  answers_ = static_cast<int64_t>(plans.size() * requests.items().size());
  const auto scores = forward_.score(plans, requests.prompts(), keeper ? &keeper : nullptr);
  std::vector<SplitResult> results(plans.size());
  for (size_t plan = 0; plan < plans.size(); ++plan) results[plan].items = requests.judge(scores[plan]);
  decode_undecided(plans, requests, ids, keeper, &results);
  for (SplitResult& result : results) result.sum_up(requests.task());
  return results;
}

void SplitEvaluator::decode_undecided(std::span<const ExpertPlan> plans, const Requests& requests,
                                      std::span<const int32_t> ids, const Keeper& keeper,
                                      std::vector<SplitResult>* results) {
  // An open verdict means that generation ended by itself: at its limit, at the end of sequence, or at the
  // model's last position.
  const auto settle = [&](size_t item, std::vector<int32_t> output, ItemScore* score) {
    score->output = std::move(output);
    const auto verdict = requests.verdict(item, score->output, false);
    const std::vector<double> values = verdict ? *verdict : *requests.verdict(item, score->output, true);
    score->metric = values.front();
    score->more.assign(values.begin() + 1, values.end());
    score->decided = true;
  };
  std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size());
  std::vector<std::vector<size_t>> items(plans.size());
  int64_t open = 0, done = 0;
  for (size_t plan = 0; plan < plans.size(); ++plan) {
    for (size_t item = 0; item < (*results)[plan].items.size(); ++item) {
      ItemScore& score = (*results)[plan].items[item];
      if (score.decided) continue;
      if (const std::vector<int32_t>* const known = keeper.answer(plan, item)) {
        settle(item, *known, &score);
        continue;
      }
      if (!drafts_.knows(ids[item])) drafts_.add(ids[item], requests.right_answer(item));
      std::vector<int32_t> tokens = requests.prompt_tokens(item);
      tokens.insert(tokens.end(), score.output.begin(), score.output.end());
      prompts[plan].push_back(std::move(tokens));
      items[plan].push_back(item);
      ++open;
    }
  }
  if (open == 0) return;
  GenerateOptions options;
  options.max_new = requests.max_new();
  const auto whole = [&](int32_t plan, int32_t sequence, std::span<const int32_t> generated) {
    std::vector<int32_t> output = (*results)[static_cast<size_t>(plan)]
                                      .items[items[static_cast<size_t>(plan)][static_cast<size_t>(sequence)]]
                                      .output;
    output.insert(output.end(), generated.begin(), generated.end());
    return output;
  };
  const auto settled = [&](int32_t plan, int32_t sequence, std::span<const int32_t> generated) {
    const std::vector<int32_t> output = whole(plan, sequence, generated);
    const bool ended = static_cast<int32_t>(output.size()) >= requests.max_new();
    return ended ||
           requests.verdict(items[static_cast<size_t>(plan)][static_cast<size_t>(sequence)], output, false)
               .has_value();
  };
  options.finished = [&](int32_t plan, int32_t sequence, std::span<const int32_t> generated) {
    keeper.keep_answer(static_cast<size_t>(plan),
                       items[static_cast<size_t>(plan)][static_cast<size_t>(sequence)],
                       whole(plan, sequence, generated));
    if (progress_) progress_(true, ++done, open);
  };
  const auto draft = [&](int32_t plan, int32_t sequence, std::span<const int32_t> generated) {
    const size_t item = items[static_cast<size_t>(plan)][static_cast<size_t>(sequence)];
    return drafts_.after(ids[item], whole(plan, sequence, generated));
  };
  const auto generated = forward_.generate(plans, prompts, options, settled, draft);
  for (size_t plan = 0; plan < plans.size(); ++plan) {
    for (size_t sequence = 0; sequence < items[plan].size(); ++sequence) {
      const size_t item = items[plan][sequence];
      ItemScore& score = (*results)[plan].items[item];
      settle(item,
             whole(static_cast<int32_t>(plan), static_cast<int32_t>(sequence), generated[plan][sequence]),
             &score);
      drafts_.add(ids[item], score.output);
    }
  }
}

std::vector<std::string> SplitEvaluator::texts(const ExpertPlan& plan) {
  std::vector<std::vector<std::vector<int32_t>>> prompts(1);
  for (size_t item = 0; item < requests_.items().size(); ++item)
    prompts[0].push_back(requests_.prompt_tokens(item));
  GenerateOptions options;
  options.max_new = requests_.max_new();
  const auto stopped = [&](int32_t, int32_t, std::span<const int32_t> generated) {
    return requests_.has_stop(generated);
  };
  std::vector<std::string> texts;
  int64_t done = 0;
  options.finished = [&](int32_t, int32_t, std::span<const int32_t>) {
    if (progress_) progress_(true, ++done, static_cast<int64_t>(prompts[0].size()));
  };
  const auto draft = [&](int32_t, int32_t item, std::span<const int32_t> generated) {
    return drafts_.after(item, generated);
  };
  const auto generated = forward_.generate(std::span(&plan, 1), prompts, options, stopped, draft);
  for (const std::vector<int32_t>& tokens : generated[0]) texts.push_back(requests_.output_text(tokens));
  return texts;
}

}  // namespace eep
