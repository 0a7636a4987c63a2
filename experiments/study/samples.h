// samples: every item's answer as lines of JSON, for people.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/evaluator.h"

namespace eep {

// One line an item of the result, which is of these requests. texts: [items] generated to their ends, or
// null: each as far as it was needed to decide the item, without the extracted answer.
std::string samples_lines(const Requests& requests, const SplitResult& result,
                          const std::vector<std::string>* texts = nullptr);

// Items with a score that is no number, or infinite: those count as kLeastLogProbability.
size_t items_without_scores(const SplitResult& result);

}  // namespace eep
