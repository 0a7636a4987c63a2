// eep calibrate: one pass over a task's text, statistics for every one-shot criterion at any budget.
#include <fmt/format.h>

#include <memory>

#include "engine/calibration.h"
#include "es/criteria.h"
#include "es/statistics_io.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/study/experiment.h"
#include "experiments/study/model_context.h"
#include "loaders/formats/file.h"
#include "loaders/tasks/requests.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, task, split = "train", out;
  int64_t limit = 0, subset_tokens = 2048, sampled_subsets = 500;
  std::vector<int32_t> experts;
};

// Kept counts whose subsets are measured: those asked for; else all where they can all be listed; else halves
// of the experts.
std::vector<int32_t> subset_counts(const Arguments& arguments, int32_t experts) {
  if (!arguments.experts.empty()) {
    for (int32_t kept : arguments.experts) {
      if (kept < 1 || kept >= experts) {
        throw Error(ExitCode::kUsage, "--experts",
                    fmt::format("out of range (expected 1..{}, got {})", experts - 1, kept));
      }
    }
    return arguments.experts;
  }
  std::vector<int32_t> counts;
  for (int32_t kept = 1; kept < experts; ++kept) {
    if (experts <= 12 || kept * 2 == experts || kept * 4 == experts || kept * 4 == experts * 3)
      counts.push_back(kept);
  }
  return counts;
}

int run_calibration(const Arguments& arguments, CommandContext& context) {
  require_writable(arguments.out);
  Task task = load_task(find_task(arguments.task, "."));
  task.few_shot.seed = context.options.seed;
  std::vector<Item> items = load_items(task, arguments.split, arguments.limit);
  const auto opened = open_model(arguments.model, context);
  ModelContext& model = *opened;
  require_original(model.raw(), arguments.model);
  const int32_t experts = static_cast<int32_t>(model.config().num_experts);
  StatisticsFile file;
  file.model = model.hash();
  file.data = items_hash(items);
  file.task = task.name;
  const Requests requests(task, std::move(items), model.tokenizer(), model.config());
  if (const std::string cut = requests.truncation_text(arguments.split); !cut.empty())
    context.messages.warn(cut);
  CalibrationOptions options;
  options.subset_kept = subset_counts(arguments, experts);
  options.subset_tokens = arguments.subset_tokens;
  options.sample_subsets =
      [&](int32_t /*layer*/, int32_t kept) {  // one list for all layers: a group's layers are compared on it
        return sample_subsets(experts, kept, arguments.sampled_subsets, static_cast<uint64_t>(kept));
      };
  file.statistics = calibrate(model.weights(), model.ops(), context.options.device, context.options.memory,
                              requests.prompts(), options);
  write_file_atomic(arguments.out, statistics_json(file));
  context.messages.info(fmt::format("{} tokens, {} layers: {}", file.statistics.tokens,
                                    file.statistics.layers.size(), arguments.out));
  return 0;
}

}  // namespace

void register_calibrate(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("calibrate", "Statistics of every expert on a task's text",
                   "eep calibrate experiments/demo/mixtral --task sort --out scores.json",
                   [=](CommandContext& context) { return run_calibration(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--task", arguments->task, "task name or file").required();
  command.option("--split", arguments->split, "split of the task");
  command.option("--limit", arguments->limit, "first N items").range(1, 1000000000);
  command.option("--experts", arguments->experts, "kept counts for which subset errors (naee) are measured")
      .comma_separated();
  command.option("--subset-tokens", arguments->subset_tokens, "tokens that enter the subset errors")
      .range(1, 1000000000);
  command
      .option("--sampled-subsets", arguments->sampled_subsets,
              "subsets a layer where there are more than 10,000")
      .range(1, 10000);
  command.option("--out", arguments->out, "score file (JSON)").required();
}

}  // namespace eep
