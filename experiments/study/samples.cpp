#include "experiments/study/samples.h"

#include <algorithm>

#include "loaders/formats/json.h"
#include "loaders/tasks/extract.h"

namespace eep {

std::string samples_lines(const Requests& requests, const SplitResult& result,
                          const std::vector<std::string>* texts) {
  const Task& task = requests.task();
  std::string lines;
  for (size_t i = 0; i < result.items.size(); ++i) {
    const Item& item = requests.items()[i];
    const ItemScore& score = result.items[i];
    Json line{{"item", i}, {"prompt", item.prompt}};
    if (task.kind == TaskKind::kMultipleChoice) {
      line["target"] = item.choices[static_cast<size_t>(item.label)];
      line["prediction"] = item.choices[static_cast<size_t>(score.prediction)];
    } else {
      line["target"] = item.references;
      line["output"] = texts == nullptr ? requests.output_text(score.output) : texts->at(i);
      if (texts != nullptr) line["answer"] = extract_answer(task.extract, texts->at(i));
    }
    line["score"] = score.metric;
    for (size_t more = 0; more < score.more.size(); ++more)
      line["scores"][task.more[more].name] = score.more[more];
    line["right_loglik"] = score.right_loglik;
    lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return lines;
}

size_t items_without_scores(const SplitResult& result) {
  return static_cast<size_t>(
      std::count_if(result.items.begin(), result.items.end(), [](const ItemScore& item) {
        return std::any_of(item.log_probabilities.begin(), item.log_probabilities.end(),
                           [](float value) { return value <= static_cast<float>(kLeastLogProbability); });
      }));
}

}  // namespace eep
