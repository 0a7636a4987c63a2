#include "experiments/study/rank_thresholds.h"

#include <algorithm>

#include "engine/prompt_texts.h"
#include "experiments/study/division.h"
#include "experiments/study/rank_evaluation.h"

namespace eep {

SkipThresholds divided_thresholds(Ranks& ranks, int count, int step, int32_t combination, ModelContext& model,
                                  size_t memory, const ExpertPlan& plan, const Prompts& prompts,
                                  const std::function<void(int64_t)>& progress) {
  check_skippable(plan);
  const std::vector<int64_t> ends = divide_text(prompts, 0, 0, count / step, prompts.rows());
  int sent = 0;
  for (size_t part = 1; part < ends.size(); ++part) {
    const Prompts own = prompts_between(prompts, ends[part - 1], ends[part]);
    ranks.send(ranks.rank() + ++sent * step, kRatiosTag,
               ratios_work_bytes({combination, model.hash(), plan, own}));
  }
  const Prompts first = prompts_between(prompts, 0, ends.at(0));
  WeightRatios all = weight_ratios(model.weights(), memory, plan, first, [&](int64_t rows) {
    if (progress) progress(rows * prompts.rows() / first.rows());
  });
  for (; sent > 0; --sent) {
    const WeightRatios made = ratios_of(ranks.receive({kRatiosMadeTag}).bytes);
    for (size_t layer = 0; layer < all.size(); ++layer)
      all[layer].insert(all[layer].end(), made.at(layer).begin(), made.at(layer).end());
  }
  return thresholds_of(std::move(all));
}

void compute_ratios(const RatiosWork& work, int leader, ModelContext& model, size_t memory, Ranks& ranks) {
  check_same_as_leader("the model", work.model, model.hash());
  ranks.send(leader, kRatiosMadeTag,
             ratios_bytes(weight_ratios(model.weights(), memory, work.plan, work.prompts)));
}

}  // namespace eep
