// eep import-coefficients: the published coefficient files of EEP as plan files.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "experiments/program/program.h"
#include "kernels/router.h"
#include "loaders/models/coefficients.h"
#include "loaders/models/plan_io.h"

namespace eep {
namespace {

struct Arguments {
  std::string file, out;
  int32_t layers = 32, top_k = 2;
};

int import_coefficients(const Arguments& arguments, CommandContext& context) {
  const PthFile file = read_pth(arguments.file);
  const ExpertPlan plan = coefficients_plan(file, arguments.layers, arguments.top_k, arguments.file);
  PlanInfo info;
  info.family = family_name(Family::kMixtral);
  info.layers = arguments.layers;
  info.experts = plan.groups[0].experts;
  info.provenance = {{"method", "published coefficients"},
                     {"file", std::filesystem::path(arguments.file).filename().string()}};
  if (file.metric) info.provenance["metric"] = *file.metric;
  write_plan(arguments.out, plan, info);
  context.messages.info(fmt::format("{} of {} experts in {} groups of {} layers: {}", plan.groups[0].kept,
                                    plan.groups[0].experts, plan.groups.size(), arguments.layers,
                                    arguments.out));
  return 0;
}

}  // namespace

void register_import_coefficients(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("import-coefficients", "A plan from a published coefficient file (.pth)",
                   "eep import-coefficients wic_budget_4.pth --out plan.json",
                   [=](CommandContext& context) { return import_coefficients(*arguments, context); });
  command.option("FILE", arguments->file, "zip archive of torch.save; nothing in it is executed").required();
  command.option("--layers", arguments->layers, "layers of the model (default: 32, Mixtral-8x7B)")
      .range(1, 4096);
  command.option("--top-k", arguments->top_k, "active experts (default: 2)").range(1, kMaxTopK);
  command.option("--out", arguments->out, "plan file").required();
}

}  // namespace eep
