// eep import-keep-list: a plan from the list of kept experts of another program.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "experiments/program/program.h"
#include "kernels/common/expected.h"
#include "kernels/router.h"
#include "loaders/formats/file.h"
#include "loaders/models/config_json.h"
#include "loaders/models/keep_list.h"
#include "loaders/models/plan_io.h"

namespace eep {
namespace {

struct Arguments {
  std::string file, model, out;
  int32_t experts = 0, top_k = 0;
};

int import_keep_list(const Arguments& arguments, CommandContext& context) {
  require_writable(arguments.out);
  if (std::error_code none; std::filesystem::equivalent(arguments.file, arguments.out, none))
    throw Error(ExitCode::kUsage, arguments.out, "is the keep list that is read", "name another output");
  const ModelConfig config = read_config(arguments.model);
  const auto experts = static_cast<int32_t>(config.num_experts);
  if (arguments.experts > experts) {
    throw Error(ExitCode::kUsage, "--experts",
                "more than the model has" + expected_got(fmt::format("1..{}", experts), arguments.experts));
  }
  const KeepList list = parse_keep_list(read_file(arguments.file), arguments.file, config, arguments.experts);
  const int32_t top_k = arguments.top_k > 0 ? arguments.top_k : static_cast<int32_t>(config.top_k);
  const ExpertPlan plan = keep_list_plan(list, experts, top_k);
  const Json provenance{{"method", "keep list"},
                        {"file", std::filesystem::path(arguments.file).filename().string()}};
  write_plan(arguments.out, plan, plan_info(config, {}, provenance));
  const auto fewer = [](const PlanGroup& a, const PlanGroup& b) { return a.kept < b.kept; };
  const auto [least, most] = std::minmax_element(plan.groups.begin(), plan.groups.end(), fewer);
  if (least->kept < top_k) {
    context.messages.warn(
        fmt::format("layer {} keeps {} experts, fewer than the {} active ones: all of them "
                    "are active there",
                    least->layers[0], least->kept, top_k));
  }
  const std::string kept = least->kept == most->kept ? std::to_string(least->kept)
                                                     : fmt::format("{} to {}", least->kept, most->kept);
  context.messages.info(
      fmt::format("{} of {} experts in {} layers: {}", kept, experts, plan.groups.size(), arguments.out));
  if (least->kept != most->kept) {
    context.messages.info("layers differ: export writes the plan with --format native or hf-per-layer");
  }
  return 0;
}

}  // namespace

void register_import_keep_list(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("import-keep-list", "A plan from the kept experts that another program lists (JSON)",
                   "eep import-keep-list kept.json --model experiments/demo/mixtral --out plan.json",
                   [=](CommandContext& context) { return import_keep_list(*arguments, context); });
  command.option("FILE", arguments->file, "lists of experts by layer, or rankings").required();
  command.option("--model", arguments->model, "model directory").required();
  command.option("--experts", arguments->experts, "experts kept of each ranking").range(1, kMaxExperts);
  command.option("--top-k", arguments->top_k, "active experts (default: the model's)").range(1, kMaxTopK);
  command.option("--out", arguments->out, "plan file").required();
}

}  // namespace eep
