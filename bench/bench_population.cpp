// Candidates per second of a population on a task, with tokens computed against tokens asked for.
//
//   bench_population MODEL TASK.yaml PLANS.json [--split S] [--limit N] [--population P] [--threads T]
//
// PLANS.json is a list of plan files. They are evaluated in populations of P (default: all at once), after
// one warm-up. One JSON line:
// {"seconds", "candidates", "population", "candidates_per_second", "tokens_computed", "tokens_asked",
// "scores": [...]}. Without PLANS.json: a table for populations of 1, 4, 16 and 64 random one-hot plans that
// keep half of the experts.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>

#include "experiments/study/evaluator.h"
#include "experiments/study/experiment.h"
#include "experiments/study/model_context.h"
#include "loaders/formats/json.h"
#include "loaders/models/plan_io.h"

namespace eep {
namespace {

struct Options {
  std::string model, task, plans, split = "train";
  int64_t limit = 128, population = 0;
  int threads = 1;
};

struct Measurement {
  double seconds = 0;
  WorkCounts work;
  std::vector<double> scores;
};

Measurement measure(SplitEvaluator& evaluator, const std::vector<ExpertPlan>& plans, size_t population) {
  evaluator.evaluate(std::span(plans).subspan(0, 1));  // touches every page once
  Measurement result;
  const WorkCounts before = evaluator.work();
  const auto start = std::chrono::steady_clock::now();
  for (size_t begin = 0; begin < plans.size(); begin += population) {
    const size_t count = std::min(population, plans.size() - begin);
    for (const SplitResult& split : evaluator.evaluate(std::span(plans).subspan(begin, count)))
      result.scores.push_back(split.score);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.work.tokens_computed = evaluator.work().tokens_computed - before.tokens_computed;
  result.work.tokens_asked = evaluator.work().tokens_asked - before.tokens_asked;
  result.work.decode_steps = evaluator.work().decode_steps - before.decode_steps;
  return result;
}

std::vector<ExpertPlan> random_plans(const ModelConfig& config, size_t count) {
  std::mt19937 generator(20);
  const int32_t experts = static_cast<int32_t>(config.num_experts);
  std::vector<ExpertPlan> plans(count);
  for (ExpertPlan& plan : plans) {
    plan.top_k = static_cast<int32_t>(config.top_k);
    for (auto& layers :
         split_layers(config.sparse, static_cast<int32_t>(std::min<int64_t>(4, config.sparse_layers())))) {
      std::vector<int32_t> kept(static_cast<size_t>(experts));
      for (int32_t e = 0; e < experts; ++e) kept[static_cast<size_t>(e)] = e;
      std::shuffle(kept.begin(), kept.end(), generator);
      kept.resize(static_cast<size_t>(std::max(1, experts / 2)));
      std::sort(kept.begin(), kept.end());
      plan.groups.push_back(one_hot_group(layers, kept, experts));
    }
  }
  return plans;
}

int run(const Options& options) {
  Device device;
  device.threads = options.threads;
  const Task task = load_task(find_task(options.task, "."));
  ModelContext model(options.model, {cpu_ops(), device});
  SplitEvaluator evaluator(model.weights(), 0, task, load_items(task, options.split, options.limit),
                           model.tokenizer());
  if (options.plans.empty()) {
    std::cout << fmt::format("{:>10} {:>14} {:>10} {:>16} {:>14} {:>13}\n", "population", "candidates/s",
                             "seconds", "tokens computed", "tokens asked", "decode steps");
    for (const size_t population : {1u, 4u, 16u, 64u}) {
      const Measurement m = measure(evaluator, random_plans(model.config(), 64), population);
      std::cout << fmt::format("{:>10} {:>14.2f} {:>10.2f} {:>16} {:>14} {:>13}\n", population,
                               64 / m.seconds, m.seconds, m.work.tokens_computed, m.work.tokens_asked,
                               m.work.decode_steps);
    }
    return 0;
  }
  std::vector<ExpertPlan> plans;
  for (const Json& file : parse_json(read_file(options.plans), options.plans))
    plans.push_back(read_plan(file.get<std::string>()));
  const size_t population = options.population > 0 ? static_cast<size_t>(options.population) : plans.size();
  const Measurement m = measure(evaluator, plans, population);
  std::cout << Json{{"seconds", m.seconds},
                    {"candidates", plans.size()},
                    {"population", population},
                    {"candidates_per_second", static_cast<double>(plans.size()) / m.seconds},
                    {"tokens_computed", m.work.tokens_computed},
                    {"tokens_asked", m.work.tokens_asked},
                    {"decode_steps", m.work.decode_steps},
                    {"scores", m.scores}}
                   .dump()
            << "\n";
  return 0;
}

}  // namespace
}  // namespace eep

int main(int argc, char** argv) {
  eep::Options options;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string("0"); };
    if (word == "--split")
      options.split = value();
    else if (word == "--limit")
      options.limit = std::atoll(value().c_str());
    else if (word == "--population")
      options.population = std::atoll(value().c_str());
    else if (word == "--threads")
      options.threads = std::max(1, std::atoi(value().c_str()));
    else
      words.push_back(word);
  }
  if (words.size() < 2 || words.size() > 3) {
    std::cerr << "usage: bench_population MODEL TASK.yaml [PLANS.json] [--split S] [--limit N] [--population "
                 "P] [--threads T]\n";
    return 2;
  }
  options.model = words[0];
  options.task = words[1];
  if (words.size() > 2) options.plans = words[2];
  try {
    return eep::run(options);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
