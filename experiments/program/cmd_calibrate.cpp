// eep calibrate: one pass over the text of a task or of a file, statistics for every one-shot criterion at
// any budget.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "engine/calibration.h"
#include "engine/weight_sums.h"
#include "es/criteria.h"
#include "es/no_signal.h"
#include "es/redundancy.h"
#include "es/statistics_io.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/program/signals.h"
#include "experiments/ranks/launch.h"
#include "experiments/study/calibration_progress.h"
#include "experiments/study/calibration_prompts.h"
#include "experiments/study/experiment.h"
#include "experiments/study/model_context.h"
#include "experiments/study/rank_calibration.h"
#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/models/zero_experts.h"
#include "loaders/tasks/requests.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, task, split = "train", out, matrices = "auto";
  CalibrationPromptsOptions text;
  int64_t limit = 0, subset_tokens = 2048, sampled_subsets = 500;
  std::vector<int32_t> experts;
  bool share_device = false;
};

// Numbers of the matrices of pairs of experts that a score file holds unless more are asked for: some 80 MB.
constexpr int64_t kMostMatrixNumbers = int64_t{1} << 22;

// Kept counts whose subsets are measured: those asked for; else all where they can all be listed; else halves
// of the experts.
std::vector<int32_t> subset_counts(const Arguments& arguments, int32_t experts) {
  if (!arguments.experts.empty()) {
    for (int32_t kept : arguments.experts) {
      if (kept < 1 || kept >= experts) {
        throw Error(ExitCode::kUsage, "--experts",
                    "out of range" + expected_got(fmt::format("1..{}", experts - 1), kept));
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

bool wants_matrices(const Arguments& arguments, const ModelConfig& config) {
  if (arguments.matrices != "auto") return arguments.matrices == "on";
  return static_cast<int64_t>(kExpertMatrices) * config.sparse_layers() * config.num_experts *
             config.num_experts <=
         kMostMatrixNumbers;
}

// What is measured besides the sums of every pass.
CalibrationOptions calibration_options(const Arguments& arguments, const ModelConfig& config) {
  const auto experts = static_cast<int32_t>(config.num_experts);
  CalibrationOptions options;
  options.subset_kept = subset_counts(arguments, experts);
  options.subset_tokens = arguments.subset_tokens;
  options.details = true;
  options.every_expert = wants_matrices(arguments, config);
  options.sample_subsets = [experts, count = arguments.sampled_subsets](int32_t /*layer*/, int32_t kept) {
    // One list for all layers: a group's layers are compared on it.
    return sample_subsets(experts, kept, count, static_cast<uint64_t>(kept));
  };
  return options;
}

// By this process, or by all ranks.
ExpertStatistics calibrate_divided(ModelContext& model, CommandContext& context, const PromptSource& next,
                                   const CalibrationOptions& options) {
  const CommonOptions& common = context.options;
  if (context.ranks == nullptr) return calibrate(model.weights(), common.memory, next, options);
  return RankCalibration(*context.ranks, context.ranks->size(), 1)
      .calibrate(0, model, common.memory, next, options);
}

// Another rank: its part of what rank 0 calibrates, which ends it.
[[noreturn]] void serve(const Arguments& arguments, CommandContext& context) {
  std::unique_ptr<ModelContext> model;
  for (;;) {
    const RankMessage message = context.ranks->receive({kCalibrateTag});
    if (!model) model = open_model(arguments.model, context);
    const CommonOptions& common = context.options;
    compute_calibration(calibration_work_of(message.bytes), *model, common.memory, *context.ranks);
  }
}

ExpertStatistics of_file(const Arguments& arguments, ModelContext& model, CommandContext& context,
                         StatisticsFile& file) {
  CalibrationPromptsOptions options = arguments.text;
  options.limit = arguments.limit;
  CalibrationPrompts prompts(options, model);
  context.messages.info(prompts.summary());
  if (!prompts.note().empty()) context.messages.warn(prompts.note());
  file.data = prompts.hash();
  file.task = std::filesystem::path(options.file).filename().string();
  file.rows_used = prompts.counts().used;
  file.rows_skipped = prompts.counts().skipped;
  CalibrationOptions calibration = calibration_options(arguments, model.config());
  // The tokens of a file are not known before they are used, but its bytes are.
  int64_t tokens_before = 0, part_tokens = 0, bytes_before = 0;
  const PromptSource next = [&](Prompts& part) {
    tokens_before += part_tokens;
    bytes_before = prompts.bytes_given();
    const bool more = prompts.next(part);
    part_tokens = more ? part.rows() : 0;
    return more;
  };
  calibration.progress = [&](int64_t tokens) {
    const double share = static_cast<double>(tokens - tokens_before) / static_cast<double>(part_tokens);
    const double bytes = share * static_cast<double>(prompts.bytes_given() - bytes_before);
    context.messages.brief_progress("calibration", bytes_before + static_cast<int64_t>(bytes),
                                    prompts.bytes(), "bytes of text");
  };
  return calibrate_divided(model, context, next, calibration);
}

int run_calibration(const Arguments& arguments, CommandContext& context) {
  const StopSignal stoppable;
  check_slurm_tasks(std::getenv, context.ranks == nullptr ? 1 : context.ranks->size());
  if (context.ranks != nullptr && context.ranks->rank() > 0) serve(arguments, context);
  if (context.ranks != nullptr) check_devices(context.ranks->everybody(), arguments.share_device);
  require_writable(arguments.out);
  const bool of_task = !arguments.task.empty();
  if (of_task == !arguments.text.file.empty()) {
    throw Error(ExitCode::kUsage, "calibrate", "exactly one of --task and --text is needed");
  }
  Task task;
  std::vector<Item> items;
  if (of_task) {
    task = load_task(find_task(arguments.task, "."));
    task.few_shot.seed = context.options.seed;
    use_chat_template(&task, arguments.model);
    items = load_items(task, arguments.split, arguments.limit);
  }
  const auto opened = open_model(arguments.model, context);
  ModelContext& model = *opened;
  require_original(model.raw(), arguments.model);
  StatisticsFile file;
  file.model = model.hash();
  if (of_task) {
    file.data = items_hash(items);
    file.task = task.name;
    const Requests requests(task, std::move(items), model.tokenizer(), model.config());
    if (const std::string cut = requests.truncation_text(arguments.split); !cut.empty())
      context.messages.warn(cut);
    CalibrationOptions options = calibration_options(arguments, model.config());
    const Prompts texts = requests.texts();
    options.progress = [&](int64_t tokens) {
      context.messages.brief_progress("calibration", tokens, texts.rows(), "tokens");
    };
    // What is kept between chunks belongs to this model, text and these subsets.
    const std::string identity =
        fmt::format("{} {} {} {} {} {} {} [{}]", file.model, file.data, context.options.parity,
                    context.options.precision, arguments.subset_tokens, arguments.sampled_subsets,
                    options.every_expert, fmt::join(options.subset_kept, ","));
    const auto pass = [&](const CalibrationOptions& with) {
      return calibrate_divided(model, context, once(texts), with);
    };
    file.statistics = calibrate_resumably(pass, options, arguments.out + ".state", identity);
  } else {
    file.statistics = of_file(arguments, model, context, file);
  }
  context.messages.finish_progress();
  require_finite_statistics(file.statistics);
  add_weight_sums(model.raw(), context.options.device.threads, file.statistics);
  for (const ZeroExperts& zero : zero_experts(model.raw())) {
    context.messages.warn(zero_experts_line(zero, &layer_statistics(file.statistics, zero.layer)));
  }
  if (!wants_matrices(arguments, model.config())) {
    for (LayerStatistics& layer : file.statistics.layers) layer.matrices = {};
  }
  write_file_atomic(arguments.out, statistics_json(file));
  context.out << redundancy_table(file.statistics);
  context.messages.info(fmt::format("{} tokens, {} layers: {}", file.statistics.tokens,
                                    file.statistics.layers.size(), arguments.out));
  return 0;
}

}  // namespace

void register_calibrate(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("calibrate", "Statistics of every expert on the text of a task or a file",
                   "eep calibrate experiments/demo/mixtral --task sort --out scores.json",
                   [=](CommandContext& context) { return run_calibration(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--task", arguments->task, "task name or file");
  command.option("--split", arguments->split, "split of the task");
  const Option text = command.option("--text", arguments->text.file,
                                     "text in place of a task: JSON Lines of text, prompt and completion, "
                                     "messages or conversations; else plain text");
  command.option("--field", arguments->text.field, "field of every row that holds its text, or its messages")
      .needs(text);
  command
      .option(
          "--template", arguments->text.chat,
          "chat template for messages: auto (the model's, if it has one), on (prompt and completion too), "
          "off (their contents), or mistral-v1, chatml")
      .one_of({"auto", "on", "off", "mistral-v1", "chatml"})
      .needs(text);
  command.option("--min-tokens", arguments->text.min_tokens, "fewest tokens of the text, else an error")
      .range(1, 1000000000000)
      .needs(text);
  command.option("--window", arguments->text.window, "longest sequence; longer texts are cut")
      .range(1, 1000000)
      .needs(text);
  command.option("--limit", arguments->limit, "first N items, or rows that have text").range(1, 1000000000);
  command.option("--experts", arguments->experts, "kept counts for which subset errors (naee) are measured")
      .comma_separated();
  command.option("--subset-tokens", arguments->subset_tokens, "tokens that enter the subset errors")
      .range(1, 1000000000);
  command
      .option("--sampled-subsets", arguments->sampled_subsets,
              "subsets a layer where there are more than 10,000")
      .range(1, 10000);
  command
      .option("--matrices", arguments->matrices,
              "sums over pairs of experts (hope, msmoe, hcsmoe, ream); auto: where the file stays small")
      .one_of({"auto", "on", "off"});
  command.option("--out", arguments->out, "score file (JSON)").required();
  command.flag("--share-device", arguments->share_device, "several ranks may use one GPU");
}

}  // namespace eep
