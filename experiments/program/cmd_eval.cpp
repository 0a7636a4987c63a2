// eep eval: a task's metric for a model, or for a plan applied to it.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/program/signals.h"
#include "experiments/study/evaluator.h"
#include "experiments/study/experiment.h"
#include "experiments/study/samples.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/tasks/statistics.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, task, split = "test", protocol = "harness", plan, samples;
  int64_t limit = 0;
  bool json = false;
};

std::string samples_of(SplitEvaluator& evaluator, const ExpertPlan& plan, const SplitResult& result) {
  if (evaluator.requests().task().kind != TaskKind::kGenerate) {
    return samples_lines(evaluator.requests(), result);
  }
  const std::vector<std::string> texts = evaluator.texts(plan);
  return samples_lines(evaluator.requests(), result, &texts);
}

// A metric of a task on all items of a split.
struct Estimate {
  std::string name;
  double score = 0, error = 0;
  Interval interval;
};

// All of the task's metrics, the first one first.
std::vector<Estimate> estimates(const Task& task, const SplitResult& result) {
  std::vector<Estimate> all;
  const auto add = [&](const std::string& name, Metric metric, double score) {
    const double error = standard_error(result.metrics(all.size()));
    all.push_back(
        {name, score, error,
         is_binary(metric) ? wilson_interval(score * result.n, result.n) : normal_interval(score, error)});
  };
  add(task.metric_as, task.metric, result.score);
  for (size_t i = 0; i < task.more.size(); ++i) add(task.more[i].name, task.more[i].metric, result.more[i]);
  return all;
}

int eval(const Arguments& arguments, CommandContext& context) {
  const StopSignal stoppable;
  if (!arguments.samples.empty()) require_writable(arguments.samples);
  Task task = load_task(find_task(arguments.task, "."), arguments.protocol);
  task.few_shot.seed = context.options.seed;
  use_chat_template(&task, arguments.model);
  std::vector<Item> items = load_items(task, arguments.split, arguments.limit);
  const auto opened = open_model(arguments.model, context);
  ModelContext& model = *opened;
  const ExpertPlan plan = plan_or_identity(arguments.plan, model);
  warn_of_no_change(plan, model.config(), arguments.plan, context);
  SplitEvaluator evaluator(model.weights(), context.options.memory, task, std::move(items),
                           model.tokenizer());
  if (const std::string cut = evaluator.requests().truncation_text(arguments.split); !cut.empty())
    context.messages.warn(cut);
  context.messages.info(describe(evaluator.memory_plan(std::span(&plan, 1))));
  evaluator.set_progress([&](bool decoding, int64_t done, int64_t total) {
    context.messages.brief_progress(decoding ? "eval, decoding" : "eval", done, total, "answers");
  });
  const SplitResult result = evaluator.evaluate(std::span(&plan, 1))[0];
  const std::vector<Estimate> all = estimates(task, result);
  if (const size_t lost = items_without_scores(result); lost > 0) {
    context.messages.warn(
        fmt::format("{} of {} items have scores that are no numbers: values inside the model "
                    "exceed what floats hold",
                    lost, result.n));
  }
  const RouterCounts& router = evaluator.work().router;
  if (router.tiny_sums + router.negative_sums > 0) {
    context.messages.warn(fmt::format("router: {} selected sums near zero, {} negative", router.tiny_sums,
                                      router.negative_sums));
  }
  if (!arguments.samples.empty()) write_file_atomic(arguments.samples, samples_of(evaluator, plan, result));
  context.messages.finish_progress();
  if (arguments.json) {
    Json metrics = Json::object();
    for (const Estimate& one : all) {
      metrics[one.name] = {
          {"score", one.score}, {"stderr", one.error}, {"ci95", {one.interval.low, one.interval.high}}};
    }
    const Json json{{"task", task.name},
                    {"split", arguments.split},
                    {"protocol", arguments.protocol},
                    {"metric", task.metric_as},
                    {"chat_template", task.chat_template},
                    {"score", result.score},
                    {"n", result.n},
                    {"stderr", all[0].error},
                    {"ci95", {all[0].interval.low, all[0].interval.high}},
                    {"metrics", metrics},
                    {"right_loglik", result.loglik},
                    {"truncated", evaluator.requests().truncated()},
                    {"tokens", evaluator.work().tokens_computed},
                    {"tokens_without_sharing", evaluator.work().tokens_asked},
                    {"router", {{"tiny_sums", router.tiny_sums}, {"negative_sums", router.negative_sums}}}};
    context.out << json.dump(2) << "\n";
  } else {
    for (const Estimate& one : all) {
      context.out << fmt::format("{} {} {}: {:.4f} +- {:.4f} (n = {}, 95% interval {:.4f}..{:.4f})\n",
                                 task.name, arguments.split, one.name, one.score, one.error, result.n,
                                 one.interval.low, one.interval.high);
    }
  }
  return 0;
}

}  // namespace

void register_eval(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command = line.command("eval", "Score a model, or a plan, on a task",
                                       "eep eval experiments/demo/mixtral --task sort --split test",
                                       [=](CommandContext& context) { return eval(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--task", arguments->task, "task name or file").required();
  command.option("--split", arguments->split, "split of the task");
  command.option("--limit", arguments->limit, "first N items").range(1, 1000000000);
  command.option("--protocol", arguments->protocol, "harness or eep").one_of({"harness", "eep"});
  command.option("--plan", arguments->plan, "plan file to apply");
  command.option("--samples", arguments->samples, "write every item's answer to this JSONL file");
  command.flag("--json", arguments->json, "machine-readable");
}

}  // namespace eep
