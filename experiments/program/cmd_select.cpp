// eep select: a plan from a score file by a one-shot criterion.
#include <fmt/format.h>

#include <memory>

#include "es/criteria.h"
#include "es/statistics_io.h"
#include "experiments/program/program.h"
#include "loaders/formats/file.h"
#include "loaders/models/plan_io.h"

namespace eep {
namespace {

struct Arguments {
  std::string scores, method, groups = "per_layer", out, router_space = "logits";
  int32_t experts = 0, top_k = 0;
  uint32_t draw = 0;
};

int run_selection(const Arguments& arguments, CommandContext& context) {
  const StatisticsFile file = parse_statistics(read_file(arguments.scores), arguments.scores);
  const ExpertStatistics& statistics = file.statistics;
  if (arguments.experts > statistics.experts) {
    throw Error(ExitCode::kUsage, "--experts",
                fmt::format("more than the model has (expected 1..{}, got {})", statistics.experts,
                            arguments.experts));
  }
  Criterion criterion;
  try {
    criterion.row = &find_criterion(arguments.method);
  } catch (const Error& error) {
    throw Error(ExitCode::kUsage, "--method", error.what());
  }
  criterion.seed = context.options.seed;
  criterion.draw = arguments.draw;
  // Score files name the sparse layers; dense ones lie between them.
  std::vector<uint8_t> sparse(static_cast<size_t>(statistics.layers.back().layer) + 1, 0);
  for (const LayerStatistics& layer : statistics.layers) sparse[static_cast<size_t>(layer.layer)] = 1;
  int32_t groups = static_cast<int32_t>(statistics.layers.size());
  if (arguments.groups != "per_layer") {
    if (arguments.groups.empty() || arguments.groups.size() > 6 ||
        arguments.groups.find_first_not_of("0123456789") != std::string::npos) {
      throw Error(ExitCode::kUsage, "--groups",
                  "not a number of layer groups or per_layer (got " + arguments.groups + ")");
    }
    const int32_t wanted = std::stoi(arguments.groups);
    if (wanted < 1 || wanted > groups) {
      throw Error(ExitCode::kUsage, "--groups",
                  fmt::format("out of range (expected 1..{}, got {})", groups, wanted));
    }
    groups = wanted;
  }
  const int32_t top_k = arguments.top_k > 0 ? arguments.top_k : statistics.top_k;
  const RouterSpace space =
      arguments.router_space == "logits" ? RouterSpace::kLogits : RouterSpace::kProbabilities;
  const std::vector<std::vector<int32_t>> layer_groups = split_layers(sparse, groups);
  const ExpertPlan plan =
      select_plan(statistics, criterion, std::vector<int32_t>(layer_groups.size(), arguments.experts),
                  layer_groups, top_k, space);
  PlanInfo info;
  info.experts = statistics.experts;
  info.hash = file.model;
  info.provenance = {{"method", arguments.method}, {"task", file.task}, {"data", file.data}};
  write_plan(arguments.out, plan, info);
  context.messages.info(fmt::format("{} of {} experts in {} groups: {}", arguments.experts,
                                    statistics.experts, groups, arguments.out));
  return 0;
}

}  // namespace

void register_select(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("select", "A plan from a score file by a one-shot criterion",
                   "eep select scores.json --method reap --experts 4 --out plan.json",
                   [=](CommandContext& context) { return run_selection(*arguments, context); });
  const std::vector<std::string_view> names = criterion_names();
  command.option("SCORES", arguments->scores, "score file of eep calibrate").required();
  command.option("--method", arguments->method, "criterion (what each is: eep list criteria)")
      .shown_as({names.begin(), names.end()})
      .required();
  command.option("--experts", arguments->experts, "experts kept in every layer").required().range(1, 512);
  command.option("--groups", arguments->groups,
                 "layer groups that share one selection: a number, or per_layer");
  command.option("--top-k", arguments->top_k, "active experts (default: the model's)").range(1, 16);
  command.option("--router-space", arguments->router_space, "logits or probabilities")
      .one_of({"logits", "probabilities"});
  command.option("--draw", arguments->draw, "number of the draw (random)");
  command.option("--out", arguments->out, "plan file").required();
}

}  // namespace eep
