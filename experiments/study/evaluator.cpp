#include "experiments/study/evaluator.h"

#include <numeric>

namespace eep {

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

SplitEvaluator::SplitEvaluator(const Weights& weights, const Ops& ops, const Device& device, size_t memory,
                               const Task& task, std::vector<Item> items, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      config_(weights.config()),
      requests_(task, std::move(items), tokenizer, weights.config()),
      forward_(weights, ops, device, memory) {}

std::vector<SplitResult> SplitEvaluator::evaluate(std::span<const ExpertPlan> plans) {
  std::vector<int32_t> ids(requests_.items().size());
  std::iota(ids.begin(), ids.end(), 0);
  return evaluate(plans, requests_, ids);
}

std::vector<SplitResult> SplitEvaluator::evaluate(std::span<const ExpertPlan> plans,
                                                  std::span<const int32_t> items) {
  std::vector<Item> chosen;
  for (const int32_t item : items) chosen.push_back(requests_.items()[static_cast<size_t>(item)]);
  return evaluate(plans, Requests(requests_.task(), std::move(chosen), tokenizer_, config_), items);
}

std::vector<SplitResult> SplitEvaluator::evaluate(std::span<const ExpertPlan> plans, const Requests& requests,
                                                  std::span<const int32_t> ids) {
  const auto scores = forward_.score(plans, requests.prompts());
  std::vector<SplitResult> results(plans.size());
  for (size_t plan = 0; plan < plans.size(); ++plan) results[plan].items = requests.judge(scores[plan]);
  decode_undecided(plans, requests, ids, &results);
  for (SplitResult& result : results) {
    result.n = static_cast<int32_t>(result.items.size());
    for (const ItemScore& item : result.items) {
      result.score += item.metric;
      result.loglik += item.right_loglik;
    }
    result.score /= result.n;
    result.loglik /= result.n;
    result.more.assign(requests.task().more.size(), 0.0);
    for (size_t i = 0; i < result.more.size(); ++i) {
      for (const ItemScore& item : result.items) result.more[i] += item.more.at(i);
      result.more[i] /= result.n;
    }
  }
  return results;
}

void SplitEvaluator::decode_undecided(std::span<const ExpertPlan> plans, const Requests& requests,
                                      std::span<const int32_t> ids, std::vector<SplitResult>* results) {
  std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size());
  std::vector<std::vector<size_t>> items(plans.size());
  bool any = false;
  for (size_t plan = 0; plan < plans.size(); ++plan) {
    for (size_t item = 0; item < (*results)[plan].items.size(); ++item) {
      const ItemScore& score = (*results)[plan].items[item];
      if (score.decided) continue;
      if (!drafts_.knows(ids[item])) drafts_.add(ids[item], requests.right_answer(item));
      std::vector<int32_t> tokens = requests.prompt_tokens(item);
      tokens.insert(tokens.end(), score.output.begin(), score.output.end());
      prompts[plan].push_back(std::move(tokens));
      items[plan].push_back(item);
      any = true;
    }
  }
  if (!any) return;
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
  const auto draft = [&](int32_t plan, int32_t sequence, std::span<const int32_t> generated) {
    const size_t item = items[static_cast<size_t>(plan)][static_cast<size_t>(sequence)];
    return drafts_.after(ids[item], whole(plan, sequence, generated));
  };
  const auto generated = forward_.generate(plans, prompts, options, settled, draft);
  for (size_t plan = 0; plan < plans.size(); ++plan) {
    for (size_t sequence = 0; sequence < items[plan].size(); ++sequence) {
      const size_t item = items[plan][sequence];
      ItemScore& score = (*results)[plan].items[item];
      score.output =
          whole(static_cast<int32_t>(plan), static_cast<int32_t>(sequence), generated[plan][sequence]);
      // An open verdict means that generation ended by itself: at its limit, at the end of sequence, or at
      // the model's last position.
      drafts_.add(ids[item], score.output);
      const auto verdict = requests.verdict(item, score.output, false);
      const std::vector<double> values = verdict ? *verdict : *requests.verdict(item, score.output, true);
      score.metric = values.front();
      score.more.assign(values.begin() + 1, values.end());
      score.decided = true;
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
  const auto draft = [&](int32_t, int32_t item, std::span<const int32_t> generated) {
    return drafts_.after(item, generated);
  };
  const auto generated = forward_.generate(std::span(&plan, 1), prompts, options, stopped, draft);
  for (const std::vector<int32_t>& tokens : generated[0]) texts.push_back(requests_.output_text(tokens));
  return texts;
}

}  // namespace eep
