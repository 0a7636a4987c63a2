// eep verify: a checkpoint directory checked, and compared with the plan applied in memory.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>

#include "engine/forward.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/study/routing_changes.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/export.h"
#include "loaders/models/model_directory.h"
#include "loaders/models/model_hash.h"
#include "loaders/models/verify.h"

namespace eep {
namespace {

constexpr int64_t kSequences = 4;
constexpr int64_t kTokens = 48;
constexpr double kClose = 2e-5;  // what f32 arithmetic in another order keeps (docs/checkpoints.md)

struct Arguments {
  std::string directory, against, plan;
  bool no_logits = false, json = false;
};

// Ids spread over the vocabulary, the same on every machine.
std::vector<std::vector<int32_t>> probe_sequences(const ModelConfig& config) {
  std::vector<std::vector<int32_t>> sequences;
  uint64_t state = 11450;
  for (int64_t i = 0; i < kSequences; ++i) {
    std::vector<int32_t> ids;
    for (int64_t j = 0; j < std::min(kTokens, config.max_positions); ++j) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      ids.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(config.vocab_size)));
    }
    sequences.push_back(std::move(ids));
  }
  return sequences;
}

// One model at a time is packed.
std::vector<std::vector<float>> logits_of(const RawModel& raw, const ExpertPlan& plan,
                                          const CommonOptions& options) {
  const Weights weights(raw, {cpu_ops(precision_named(options.precision)), options.device});
  PopulationForward forward(weights, options.memory);
  std::vector<std::vector<float>> logits;
  for (const std::vector<int32_t>& ids : probe_sequences(raw.config)) {
    logits.push_back(forward.logits(plan, ids));
  }
  return logits;
}

struct Difference {
  bool same = true;
  double largest = 0, scale = 0;        // over all logits
  int64_t positions = 0, agreeing = 0;  // whose best token is the same
  int64_t close = 0;                    // within kClose of the position's largest logit
};

Difference compare(const std::vector<std::vector<float>>& got,
                   const std::vector<std::vector<float>>& expected, size_t vocab) {
  Difference total;
  for (size_t i = 0; i < got.size(); ++i) {
    total.same =
        total.same && std::memcmp(got[i].data(), expected[i].data(), got[i].size() * sizeof(float)) == 0;
    for (size_t at = 0; at < got[i].size(); at += vocab, ++total.positions) {
      const std::span<const float> a{got[i].data() + at, vocab}, b{expected[i].data() + at, vocab};
      double largest = 0, scale = 0;
      for (size_t j = 0; j < vocab; ++j) {
        const double difference = std::fabs(double{a[j]} - double{b[j]});
        largest = std::max(largest, std::isnan(difference) ? INFINITY : difference);
        scale = std::max(scale, std::fabs(double{b[j]}));
      }
      total.largest = std::max(total.largest, largest);
      total.scale = std::max(total.scale, scale);
      total.close += largest <= kClose * scale;
      total.agreeing += std::max_element(a.begin(), a.end()) - a.begin() ==
                        std::max_element(b.begin(), b.end()) - b.begin();
    }
  }
  return total;
}

bool selects_rows(const ExpertPlan& plan) {
  return std::all_of(plan.groups.begin(), plan.groups.end(), [](const PlanGroup& group) {
    return !one_hot_rows(group.router_mapping, group.kept, group.experts).empty();
  });
}

// The checkpoint as a stock loader runs it, and (unless that is to the bit) its experts under the source's
// gates, which must be. What is left between the two is the rounding of gate rows ("gate rows") and of the
// softmax.
void compare_logits(const RawModel& exported, const RawModel& source, const ExpertPlan& plan,
                    const CommonOptions& options, std::vector<Check>& checks) {
  ExpertPlan own;
  if (exported.plan) {
    own = *exported.plan;
  } else {
    own = identity_plan(exported.config.sparse, static_cast<int32_t>(exported.config.num_experts),
                        static_cast<int32_t>(exported.config.top_k));
    own.router_space = RouterSpace::kLogits;  // what the export computes, in the arithmetic of such a plan
  }
  const auto expected = logits_of(source, plan, options);
  const size_t vocab = static_cast<size_t>(source.config.vocab_size);
  const Difference whole = compare(logits_of(exported, own, options), expected, vocab);
  if (whole.same) {
    checks.push_back({"logits", true, fmt::format("{} positions equal to the bit", whole.positions)});
    return;
  }
  const std::string detail =
      fmt::format("largest difference {:.3g} of {:.3g}, same best token at {} of {} positions", whole.largest,
                  whole.scale, whole.agreeing, whole.positions);
  const bool native = exported.plan && exported.config.experts_per_layer.empty();
  if (native || hf_bit_exact(plan)) {
    checks.push_back({"logits", false, "not equal to the bit: " + detail});
    return;
  }
  const RawModel gated = with_source_gates(exported, source, plan);
  const Difference experts = compare(logits_of(gated, *gated.plan, options), expected, vocab);
  checks.push_back(
      {"logits, source's gates", experts.same,
       fmt::format("{} positions {}equal to the bit", experts.positions, experts.same ? "" : "not ")});
  // Where no gate row was rounded to 16 bits the sums' order is all that differs; a tie of two experts may
  // still fall the other way at some positions.
  const bool folded = !selects_rows(plan) && exported.config.dtype != DType::kF32;
  std::string routed;
  if (plan.router_space == RouterSpace::kLogits) {
    const Weights weights(source, {cpu_ops(), options.device});
    routed = ", " +
             routing_changes(exported, source, plan, probe_sequences(source.config), weights, options.memory)
                 .text();
  }
  const bool enough = folded || 2 * whole.close >= whole.positions;
  checks.push_back(
      {"logits", enough && std::isfinite(whole.largest),
       detail +
           (folded ? fmt::format(", by gate rows rounded to {}", dtype_name(exported.config.dtype))
                   : fmt::format(", within {} at {}", kClose, whole.close)) +
           routed});
}

int verify(const Arguments& arguments, CommandContext& context) {
  require_model_directory(arguments.directory);
  std::optional<RawModel> model;
  std::vector<Check> checks = verify_directory(arguments.directory, model);
  const auto passed = [&] {
    return std::all_of(checks.begin(), checks.end(), [](const Check& check) { return check.passed; });
  };
  if (!arguments.against.empty() && passed()) {
    RawModel source = read_checkpoint(arguments.against, context);
    source.config.parity = model->config.parity = parity_named(context.options.parity);
    PlanInfo info;
    const std::string path = arguments.plan.empty() ? arguments.directory + "/eep_plan.json" : arguments.plan;
    const ExpertPlan plan = read_plan(path, &info);
    check_plan_model(
        plan, info, source.config, [&] { return model_hash(source); }, path);
    const auto progress = [&](size_t done, size_t total) {
      context.messages.byte_progress("verify", done, total);
    };
    for (Check& check : verify_against(arguments.directory, *model, arguments.against, source, plan,
                                       context.options.device, progress)) {
      checks.push_back(std::move(check));
    }
    context.messages.finish_progress();
    if (!arguments.no_logits && passed()) {
      compare_logits(*model, source, plan, context.options, checks);
    }
  }
  if (arguments.json) {
    Json list = Json::array();
    for (const Check& check : checks) {
      list.push_back({{"check", check.name}, {"passed", check.passed}, {"detail", check.detail}});
    }
    context.out << Json{{"passed", passed()}, {"checks", list}}.dump(2, ' ', false,
                                                                     Json::error_handler_t::replace)
                << "\n";
  } else {
    for (const Check& check : checks) {
      context.out << fmt::format("{:<7}{:<24}{}\n", check.passed ? "ok" : "FAILED", check.name, check.detail);
    }
  }
  if (passed()) return 0;
  for (const Check& check : checks) {
    if (!check.passed) throw Error(ExitCode::kData, arguments.directory, check.name + ": " + check.detail);
  }
  return 0;
}

}  // namespace

void register_verify(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command = line.command("verify", "Check a checkpoint directory",
                                       "eep verify smaller --against experiments/demo/mixtral",
                                       [=](CommandContext& context) { return verify(*arguments, context); });
  command.option("DIR", arguments->directory, "checkpoint directory").required();
  const Option against =
      command.option("--against", arguments->against, "model that the directory was exported from");
  command.option("--plan", arguments->plan, "the plan (default: DIR/eep_plan.json)").needs(against);
  command.flag("--no-logits", arguments->no_logits, "compare bytes alone: neither model is run");
  command.flag("--json", arguments->json, "machine-readable");
}

}  // namespace eep
