// eep export: a plan applied to a checkpoint, written as a smaller checkpoint.
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <memory>

#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/program/signals.h"
#include "experiments/study/experiment.h"
#include "experiments/study/routing_changes.h"
#include "experiments/study/version.h"
#include "loaders/formats/file.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/dead_experts.h"
#include "loaders/models/export.h"
#include "loaders/models/export_directory.h"
#include "loaders/models/gguf_prune.h"
#include "loaders/models/model_hash.h"
#include "loaders/text/tokenizer.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, plan, out, format = "hf", mtp = "refuse", shard_size, task, ids_file;
  bool allow_ties = false;
};

size_t parse_shard_size(const std::string& text) {
  const auto refuse = [&] {
    throw Error(ExitCode::kUsage, "--shard-size",
                "not an amount (expected bytes, or a number with k, M or G; got " + text + ")");
  };
  try {
    const size_t bytes = parse_memory(text);
    if (text.find_first_not_of("0123456789") != std::string::npos &&
        std::string("kKMG").find(text.back()) == std::string::npos)
      refuse();  // a fraction, of what
    return bytes;
  } catch (const Error&) {
    refuse();
    throw;
  }
}

// Gate rows that no loader can tell apart: refused, or said where they are allowed.
void check_ties(const RawModel& model, const ExpertPlan& plan, const Arguments& arguments,
                CommandContext& context) {
  const std::vector<RouterTie> ties = router_ties(model, plan, context.options.device);
  if (!ties.empty() && !arguments.allow_ties) {
    const std::string more =
        ties.size() == 1 ? "" : fmt::format(" (so do {} further layers')", ties.size() - 1);
    throw Error(ExitCode::kData, ties[0].tensor, ties[0].what + more,
                "--allow-ties writes it all the same; --format native keeps the plan's own map");
  }
  for (const RouterTie& tie : ties) context.messages.warn(tie.text());
}

// Token sequences on which the export's routing is compared with the plan's.
std::vector<std::vector<int32_t>> routing_sequences(const Arguments& arguments, const ModelConfig& config,
                                                    const CommandContext& context) {
  constexpr int64_t kTokens = 4096;
  if (!arguments.ids_file.empty()) return read_ids_file(arguments.ids_file);
  if (arguments.task.empty()) return {};
  Task task = load_task(find_task(arguments.task, "."));
  task.few_shot.seed = context.options.seed;
  use_chat_template(&task, arguments.model);
  const Tokenizer tokenizer = Tokenizer::load(arguments.model);
  return routed_sequences(Requests(task, load_items(task, "train", kTokens), tokenizer, config), kTokens);
}

void say_routing(const Arguments& arguments, const RawModel& model, const ExpertPlan& plan,
                 const std::vector<std::vector<int32_t>>& sequences, CommandContext& context) {
  if (plan.router_space != RouterSpace::kLogits || hf_bit_exact(plan)) {
    context.messages.info("routing: as the plan's, no gate row is mixed");
    return;
  }
  const RawModel exported = load_checkpoint(arguments.out);
  const Weights weights(model, {cpu_ops(), context.options.device});
  const RoutingChanges changes =
      routing_changes(exported, model, plan, sequences, weights, context.options.memory);
  context.messages.info("routing: " + changes.text() + " than the plan, by rounded gate rows");
}

bool is_gguf(const std::string& path) {
  if (!file_exists(path)) return false;
  const MappedFile file(path);
  return file.size() >= 4 && std::memcmp(file.data(), "GGUF", 4) == 0;
}

// A file from a file: no directory, no shards, one layout.
int export_gguf(const Arguments& arguments, CommandContext& context) {
  const auto refuse = [](const char* option, const char* what) {
    throw Error(ExitCode::kUsage, option, what);
  };
  if (arguments.format != "hf") refuse("--format", "a GGUF file stays one (expected no --format)");
  if (!arguments.shard_size.empty()) refuse("--shard-size", "a GGUF file is written whole");
  if (arguments.mtp == "keep" || arguments.mtp == "drop")
    refuse("--mtp",
           "a GGUF file holds one number of experts for these layers too (expected refuse or prune)");
  if (is_there(arguments.out)) throw Error(ExitCode::kUsage, arguments.out, "is there already");
  const MappedFile source(arguments.model);
  const GgufFile file = parse_gguf(source.data(), source.size(), arguments.model, GgufTensors::kStored);
  GgufPruning pruning;
  pruning.plan = read_plan(arguments.plan, &pruning.info);
  pruning.prunes_nextn = arguments.mtp == "prune";
  const PrunedGguf pruned(file, pruning);
  AtomicFile out(arguments.out);
  size_t done = 0;
  pruned.produce([&](const void* data, size_t bytes) {
    out.write(data, bytes);
    done += bytes;
    context.messages.byte_progress("export", done, pruned.bytes());
  });
  out.commit();
  context.messages.finish_progress();
  context.out << arguments.out << "\n";
  return 0;
}

int run_export(const Arguments& arguments, CommandContext& context) {
  const StopSignal stoppable;
  if (!arguments.ids_file.empty() && !arguments.task.empty())
    throw Error(ExitCode::kUsage, "export", "--task and --ids-file exclude each other");
  if (is_gguf(arguments.model)) return export_gguf(arguments, context);
  ExportOptions options;
  options.format = arguments.format == "native"         ? ExportFormat::kNative
                   : arguments.format == "hf-per-layer" ? ExportFormat::kHfPerLayer
                                                        : ExportFormat::kHf;
  const std::map<std::string, MtpExport> mtp{{"refuse", MtpExport::kRefuse},
                                             {"keep", MtpExport::kKeep},
                                             {"prune", MtpExport::kPrune},
                                             {"drop", MtpExport::kDrop}};
  options.mtp = mtp.at(arguments.mtp);
  if (!arguments.shard_size.empty()) options.shard_bytes = parse_shard_size(arguments.shard_size);
  require_new_directory(arguments.out);  // before the source is hashed
  options.program = std::string("eep ") + kVersion;
  options.command = context.command_line;
  options.device = context.options.device;
  RawModel model = read_checkpoint(arguments.model, context);
  model.config.parity = parity_named(context.options.parity);
  PlanInfo info;
  const ExpertPlan plan = read_plan(arguments.plan, &info);
  const auto hash = [&] {
    if (options.source_hash.empty()) {
      context.messages.info("hashing the source model");
      options.source_hash = model_hash(
          model, [&](size_t done, size_t total) { context.messages.byte_progress("hash", done, total); });
    }
    return options.source_hash;
  };
  check_plan_model(plan, info, model.config, hash, arguments.plan);
  warn_of_no_change(plan, model.config, arguments.plan, context);
  const bool per_layer = options.format == ExportFormat::kHfPerLayer;
  if (options.format == ExportFormat::kNative || hf_obstacle(model.config, plan, per_layer).empty()) hash();
  const bool folds = options.format != ExportFormat::kNative &&
                     hf_obstacle(model.config, plan, per_layer).empty() && !model.plan;
  if (folds) check_ties(model, plan, arguments, context);
  for (const std::string& line : dead_in_source(model, plan)) context.messages.warn(line);
  const std::vector<std::vector<int32_t>> sequences = routing_sequences(arguments, model.config, context);
  options.progress = [&](size_t done, size_t total) {
    context.messages.byte_progress("export", done, total);
  };
  export_checkpoint(model, arguments.model, plan, info, options, arguments.out);
  context.messages.finish_progress();
  if (folds && !sequences.empty()) say_routing(arguments, model, plan, sequences, context);
  context.out << arguments.out << "\n";
  return 0;
}

}  // namespace

void register_export(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("export", "A smaller checkpoint from a plan",
                   "eep export experiments/demo/mixtral --plan plan.json --out smaller",
                   [=](CommandContext& context) { return run_export(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory, or a GGUF file, which stays quantised as it is")
      .required();
  command.option("--plan", arguments->plan, "plan file to apply").required();
  command.option("--out", arguments->out, "directory (of a GGUF model: file) to make").required();
  command
      .option(
          "--format", arguments->format,
          "hf: stock loaders read it; hf-per-layer: layers may differ, under the keys of RCO and EvoESAP; "
          "native: any plan, eep reads it")
      .one_of({"hf", "native", "hf-per-layer"});
  command.option("--mtp", arguments->mtp, "layers for multi-token prediction, where there are any")
      .one_of({"refuse", "keep", "prune", "drop"});
  command.flag("--allow-ties", arguments->allow_ties,
               "write gate rows that are equal in the exported checkpoint, which is refused else");
  command.option("--task", arguments->task,
                 "say how many tokens of this task the checkpoint routes otherwise than the plan");
  command.option("--ids-file", arguments->ids_file, "the same of these token ids: JSON, a list of lists");
  command.option("--shard-size", arguments->shard_size,
                 "most bytes of a file, suffixes k, M, G (default: as the source)");
}

}  // namespace eep
