// eep export: a plan applied to a checkpoint, written as a smaller checkpoint.
#include <fmt/format.h>

#include <memory>

#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/program/signals.h"
#include "experiments/study/version.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/export.h"
#include "loaders/models/export_directory.h"
#include "loaders/models/model_hash.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, plan, out, format = "hf", shard_size;
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

int run_export(const Arguments& arguments, CommandContext& context) {
  const StopSignal stoppable;
  ExportOptions options;
  options.format = arguments.format == "native"         ? ExportFormat::kNative
                   : arguments.format == "hf-per-layer" ? ExportFormat::kHfPerLayer
                                                        : ExportFormat::kHf;
  if (!arguments.shard_size.empty()) options.shard_bytes = parse_shard_size(arguments.shard_size);
  require_new_directory(arguments.out);  // before the source is hashed
  options.program = std::string("eep ") + kVersion;
  options.command = context.command_line;
  options.device = context.options.device;
  RawModel model = load_checkpoint(arguments.model);
  model.config.parity = parity_named(context.options.parity);
  PlanInfo info;
  const ExpertPlan plan = read_plan(arguments.plan, &info);
  const auto hash = [&] {
    if (options.source_hash.empty()) {
      context.messages.info("hashing the source model");
      options.source_hash = model_hash(model);
    }
    return options.source_hash;
  };
  check_plan_model(plan, info, model.config, hash, arguments.plan);
  warn_of_no_change(plan, model.config, arguments.plan, context);
  const bool per_layer = options.format == ExportFormat::kHfPerLayer;
  if (options.format == ExportFormat::kNative || hf_obstacle(model.config, plan, per_layer).empty()) hash();
  if (options.format != ExportFormat::kNative && hf_obstacle(model.config, plan, per_layer).empty() &&
      !model.plan && !arguments.allow_ties) {
    for (const std::string& tie : router_ties(model, plan, options.device)) context.messages.warn(tie);
  }
  options.progress = [&](size_t done, size_t total) {
    context.messages.byte_progress("export", done, total);
  };
  export_checkpoint(model, arguments.model, plan, info, options, arguments.out);
  context.messages.finish_progress();
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
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--plan", arguments->plan, "plan file to apply").required();
  command.option("--out", arguments->out, "directory to make").required();
  command
      .option(
          "--format", arguments->format,
          "hf: stock loaders read it; hf-per-layer: layers may differ, under the keys of RCO and EvoESAP; "
          "native: any plan, eep reads it")
      .one_of({"hf", "native", "hf-per-layer"});
  command.flag("--allow-ties", arguments->allow_ties,
               "say nothing of gate rows that are equal in the exported checkpoint");
  command.option("--shard-size", arguments->shard_size,
                 "most bytes of a file, suffixes k, M, G (default: as the source)");
}

}  // namespace eep
