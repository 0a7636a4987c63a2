// eep select: a plan from score files by a one-shot criterion. Several files are texts of one model: blended
// by their weights, or so that the worst covered one is served best.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <ostream>

#include "es/allocation.h"
#include "es/blend.h"
#include "es/criteria.h"
#include "es/no_signal.h"
#include "es/statistics_io.h"
#include "experiments/program/program.h"
#include "kernels/common/expected.h"
#include "kernels/router.h"
#include "loaders/formats/file.h"
#include "loaders/models/keep_list.h"
#include "loaders/models/plan_io.h"

namespace eep {
namespace {

struct Arguments {
  std::vector<std::string> scores;
  std::string method, groups = "per_layer", out, router_space = "logits", keep_list, allocation = "uniform",
                      merged_router = "representative";
  int32_t experts = 0, top_k = 0, least = 0;
  uint32_t draw = 0;
  bool maxmin = false, balanced = false;
};

// "scores.json" or "scores.json:2"
Domain open_domain(const std::string& argument) {
  Domain domain;
  domain.name = argument;
  const size_t colon = argument.rfind(':');
  if (colon != std::string::npos && !is_there(argument)) {
    const std::string number = argument.substr(colon + 1);
    char* end = nullptr;
    domain.weight = std::strtod(number.c_str(), &end);
    const bool plain = !number.empty() && number.find_first_not_of("0123456789.eE+-") == std::string::npos;
    if (!plain || *end != '\0' || !(domain.weight > 0) || !(domain.weight < 1e12)) {
      throw Error(ExitCode::kUsage, argument,
                  "not a weight" + expected_got("FILE:WEIGHT with a number above 0", number));
    }
    domain.name = argument.substr(0, colon);
  }
  domain.file = parse_statistics(read_file(domain.name), domain.name);
  return domain;
}

std::vector<std::vector<int32_t>> layer_groups(const Arguments& arguments,
                                               const ExpertStatistics& statistics) {
  // Score files name the sparse layers; dense ones lie between them.
  std::vector<uint8_t> sparse(static_cast<size_t>(statistics.layers.back().layer) + 1, 0);
  for (const LayerStatistics& layer : statistics.layers) sparse[static_cast<size_t>(layer.layer)] = 1;
  const auto layers = static_cast<int32_t>(statistics.layers.size());
  if (arguments.groups == "per_layer") return split_layers(sparse, layers);
  if (arguments.groups.empty() || arguments.groups.size() > 6 ||
      arguments.groups.find_first_not_of("0123456789") != std::string::npos) {
    throw Error(ExitCode::kUsage, "--groups",
                "not a number of layer groups or per_layer (got " + arguments.groups + ")");
  }
  const int32_t wanted = std::stoi(arguments.groups);
  if (wanted < 1 || wanted > layers) {
    throw Error(ExitCode::kUsage, "--groups",
                "out of range" + expected_got(fmt::format("1..{}", layers), wanted));
  }
  return split_layers(sparse, wanted);
}

Criterion criterion_of(const Arguments& arguments, const CommandContext& context) {
  Criterion criterion;
  try {
    criterion.row = &find_criterion(arguments.method);
  } catch (const Error& error) {
    throw Error(ExitCode::kUsage, "--method", error.what());
  }
  criterion.seed = context.options.seed;
  criterion.draw = arguments.draw;
  criterion.merged_router = arguments.merged_router == "average" ? MergedRouter::kAverage
                            : arguments.merged_router == "sum"   ? MergedRouter::kSum
                                                                 : MergedRouter::kRepresentative;
  if (criterion.merged_router == MergedRouter::kSum && arguments.router_space != "probabilities") {
    throw Error(ExitCode::kUsage, "--merged-router", "sum adds probabilities",
                "--router-space probabilities");
  }
  return criterion;
}

// Counts of the groups: a rule other than uniform is one of layers.
std::vector<int32_t> counts_of(const Arguments& arguments, const ExpertStatistics& statistics,
                               const Criterion& criterion, size_t groups, int32_t top_k) {
  if (arguments.allocation == "uniform") return std::vector<int32_t>(groups, arguments.experts);
  if (groups != statistics.layers.size() || arguments.maxmin) {
    throw Error(ExitCode::kUsage, "--allocation",
                "counts differ by layer (expected --groups per_layer, no --maxmin)");
  }
  const auto rule = std::find_if(allocations().begin(), allocations().end(),
                                 [&](const AllocationRow& row) { return row.name == arguments.allocation; });
  const int32_t least = arguments.least > 0 ? arguments.least : std::min(top_k, arguments.experts);
  return allocate(*rule, statistics, *criterion.row, arguments.experts, least);
}

// How much of each text the plan covers.
void print_coverage(std::span<const Domain> domains, std::span<const double> weights,
                    const Criterion& criterion, const ExpertPlan& plan, std::ostream& out) {
  size_t width = 4;
  for (const Domain& domain : domains) width = std::max(width, domain.name.size());
  const bool scored = criterion.row->scores != nullptr;
  out << fmt::format("{:<{}}  {:>12}  {:>8}  {:>7}  {:>7}  worst layer\n", "text", width, "tokens", "weight",
                     "calls %", "score %");
  for (size_t i = 0; i < domains.size(); ++i) {
    const Coverage covered = coverage(domains[i].file.statistics, *criterion.row, plan);
    out << fmt::format("{:<{}}  {:>12}  {:>8.4g}  {:>7.2f}  {:>7}  {} ({:.2f} %)\n", domains[i].name, width,
                       domains[i].file.statistics.tokens, weights[i], 100 * covered.calls,
                       scored ? fmt::format("{:.2f}", 100 * covered.score) : "-", covered.worst_layer,
                       100 * covered.worst_calls);
  }
}

Json provenance_of(const Arguments& arguments, std::span<const Domain> domains,
                   std::span<const double> weights) {
  Json provenance{{"method", arguments.method}};
  if (domains.size() == 1) {
    provenance["task"] = domains[0].file.task;
    provenance["data"] = domains[0].file.data;
  } else {
    provenance["blend"] = arguments.maxmin ? "maxmin" : "sum";
    for (size_t i = 0; i < domains.size(); ++i) {
      provenance["texts"].push_back(
          {{"task", domains[i].file.task}, {"data", domains[i].file.data}, {"weight", weights[i]}});
    }
  }
  if (arguments.allocation != "uniform") provenance["allocation"] = arguments.allocation;
  return provenance;
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code none;  // of two that are there
  return std::filesystem::equivalent(a, b, none);
}

// Outputs that can be written, are two files, and are none of the score files.
void check_outputs(const Arguments& arguments, std::span<const Domain> domains) {
  for (const std::string& file : {arguments.out, arguments.keep_list}) {
    if (file.empty()) continue;
    require_writable(file);
    for (const Domain& domain : domains) {
      if (same_file(file, domain.name))
        throw Error(ExitCode::kUsage, file, "is a score file that is read", "name another output");
    }
  }
  if (arguments.keep_list.empty()) return;
  if (arguments.out == arguments.keep_list || same_file(arguments.out, arguments.keep_list))
    throw Error(ExitCode::kUsage, "--export-keep-list",
                "names the same file as --out (" + arguments.out + ")");
}

// One file twice, whatever its paths, is refused: a weight says how often it counts. Two files of one text
// are said: it may be meant where they were made with other options.
void check_twice(std::span<const Domain> domains, CommandContext& context) {
  for (size_t second = 1; second < domains.size(); ++second) {
    for (size_t first = 0; first < second; ++first) {
      const Domain &a = domains[first], &b = domains[second];
      const bool of_one_text = a.file.data == b.file.data && a.file.task == b.file.task;
      if (same_file(a.name, b.name) || (of_one_text && read_file(a.name) == read_file(b.name))) {
        throw Error(ExitCode::kUsage, b.name,
                    a.name == b.name ? "is given twice" : "is the same score file as " + a.name,
                    fmt::format("a weight counts it more than once: {}:{:g}", a.name, a.weight + b.weight));
      }
      if (of_one_text)
        context.messages.warn(fmt::format("{} and {} are of the same text ({}), which counts twice", a.name,
                                          b.name, a.file.task));
    }
  }
}

int run_selection(const Arguments& arguments, CommandContext& context) {
  std::vector<Domain> domains;
  for (const std::string& argument : arguments.scores) domains.push_back(open_domain(argument));
  check_twice(domains, context);
  check_outputs(arguments, domains);
  check_same_model(domains);
  if (arguments.balanced) balance(domains);
  const ExpertStatistics statistics = blended(domains);
  if (arguments.experts > statistics.experts) {
    throw Error(ExitCode::kUsage, "--experts",
                "more than the model has" +
                    expected_got(fmt::format("1..{}", statistics.experts), arguments.experts));
  }
  const Criterion criterion = criterion_of(arguments, context);
  const std::vector<std::vector<int32_t>> groups = layer_groups(arguments, statistics);
  const int32_t top_k = arguments.top_k > 0 ? arguments.top_k : statistics.top_k;
  const RouterSpace space =
      arguments.router_space == "logits" ? RouterSpace::kLogits : RouterSpace::kProbabilities;
  std::vector<double> weights;
  for (const Domain& domain : domains) weights.push_back(domain.weight);
  const std::vector<int32_t> counts = counts_of(arguments, statistics, criterion, groups.size(), top_k);
  const ExpertPlan plan =
      arguments.maxmin ? maxmin_plan(domains, criterion, arguments.experts, groups, top_k, space, &weights)
                       : select_plan(statistics, criterion, counts, groups, top_k, space);
  for (const std::string& line : choices_without_signal(statistics, criterion, plan))
    context.messages.warn(line);
  PlanInfo info;
  info.experts = statistics.experts;
  info.hash = domains[0].file.model;
  info.provenance = provenance_of(arguments, domains, weights);
  if (!arguments.keep_list.empty()) write_file_atomic(arguments.keep_list, format_keep_list(plan));
  write_plan(arguments.out, plan, info);
  print_coverage(domains, weights, criterion, plan, context.out);
  context.messages.info(fmt::format("{} of {} experts in {} groups: {}", arguments.experts,
                                    statistics.experts, groups.size(), arguments.out));
  return 0;
}

}  // namespace

void register_select(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("select", "A plan from score files by a one-shot criterion",
                   "eep select code.json:2 chat.json:1 --method reap --experts 4 --out plan.json",
                   [=](CommandContext& context) { return run_selection(*arguments, context); });
  const std::vector<std::string_view> names = criterion_names();
  command
      .option("SCORES", arguments->scores,
              "score files of eep calibrate; FILE:WEIGHT counts its text WEIGHT times")
      .required();
  command.option("--method", arguments->method, "criterion (what each is: eep list criteria)")
      .shown_as({names.begin(), names.end()})
      .required();
  command.option("--experts", arguments->experts, "experts kept in every layer, or their mean")
      .required()
      .range(1, kMaxExperts);
  command.option("--groups", arguments->groups,
                 "layer groups that share one selection: a number, or per_layer");
  command.flag("--maxmin", arguments->maxmin,
               "weigh the texts so that the worst covered one is covered best");
  command.flag("--balanced", arguments->balanced, "weights are of whole texts, whatever their length");
  std::vector<std::string> rules;
  for (const AllocationRow& row : allocations()) rules.emplace_back(row.name);
  command.option("--allocation", arguments->allocation, "how layers share the experts (eep list allocations)")
      .one_of(rules);
  command.option("--least", arguments->least, "fewest experts of a layer (default: the active ones)")
      .range(1, kMaxExperts);
  command
      .option(
          "--merged-router", arguments->merged_router,
          "gate row of merged experts: the one that represents them, their average, or (probabilities) sum")
      .one_of({"representative", "average", "sum"});
  command.option("--top-k", arguments->top_k, "active experts (default: the model's)").range(1, kMaxTopK);
  command.option("--router-space", arguments->router_space, "logits or probabilities")
      .one_of({"logits", "probabilities"});
  command.option("--draw", arguments->draw, "number of the draw (random)");
  command.option("--export-keep-list", arguments->keep_list,
                 "also write the kept experts of each layer, {\"0\": [1, 3], ...}");
  command.option("--out", arguments->out, "plan file").required();
}

}  // namespace eep
