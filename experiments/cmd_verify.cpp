// eep verify: a checkpoint directory checked, and compared with the plan applied in memory.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "engine/forward.h"
#include "experiments/program.h"
#include "loaders/checkpoint.h"
#include "loaders/export.h"
#include "loaders/file.h"
#include "loaders/json.h"
#include "loaders/model_hash.h"
#include "loaders/verify.h"

namespace eep {
namespace {

constexpr int64_t kSequences = 4;
constexpr int64_t kTokens = 48;

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
  const Weights weights(raw, cpu_ops());
  PopulationForward forward(weights, cpu_ops(), options.device, options.memory);
  std::vector<std::vector<float>> logits;
  for (const std::vector<int32_t>& ids : probe_sequences(raw.config)) {
    logits.push_back(forward.logits(plan, ids));
  }
  return logits;
}

Check compare_logits(const RawModel& exported, const RawModel& source, const ExpertPlan& plan,
                     const CommonOptions& options) {
  ExpertPlan own;
  if (exported.plan) {
    own = *exported.plan;
  } else {
    own = identity_plan(exported.config.sparse, static_cast<int32_t>(exported.config.num_experts),
                        static_cast<int32_t>(exported.config.top_k));
    own.router_space = RouterSpace::kLogits;  // what the export computes, in the arithmetic of such a plan
  }
  const auto got = logits_of(exported, own, options), expected = logits_of(source, plan, options);
  double difference = 0, scale = 0;
  int64_t positions = 0, agreeing = 0;
  const int64_t vocab = source.config.vocab_size;
  bool same = true;
  for (size_t i = 0; i < got.size(); ++i) {
    same = same && std::memcmp(got[i].data(), expected[i].data(), got[i].size() * sizeof(float)) == 0;
    for (size_t j = 0; j < got[i].size(); ++j) {
      difference = std::max(difference, std::fabs(double{got[i][j]} - double{expected[i][j]}));
      scale = std::max(scale, std::fabs(double{expected[i][j]}));
    }
    for (size_t at = 0; at < got[i].size(); at += static_cast<size_t>(vocab), ++positions) {
      const auto top = [&](const std::vector<float>& values) {
        const auto begin = values.begin() + static_cast<int64_t>(at);
        return std::max_element(begin, begin + vocab) - begin;
      };
      agreeing += top(got[i]) == top(expected[i]);
    }
  }
  if (same) return {"logits", true, fmt::format("{} positions equal to the bit", positions)};
  const bool exact = exported.plan.has_value() || hf_bit_exact(plan);
  const std::string detail =
      fmt::format("largest difference {:.3g} of {:.3g}, same best token at {} of {} positions", difference,
                  scale, agreeing, positions);
  return {"logits", !exact && std::isfinite(difference), exact ? "not equal to the bit: " + detail : detail};
}

int verify(const Arguments& arguments, CommandContext& context) {
  if (!directory_exists(arguments.directory)) {
    throw Error(ExitCode::kNoInput, arguments.directory, "no such model directory");
  }
  std::optional<RawModel> model;
  std::vector<Check> checks = verify_directory(arguments.directory, model);
  const auto passed = [&] {
    return std::all_of(checks.begin(), checks.end(), [](const Check& check) { return check.passed; });
  };
  if (!arguments.against.empty() && passed()) {
    const RawModel source = load_checkpoint(arguments.against);
    PlanInfo info;
    const std::string path = arguments.plan.empty() ? arguments.directory + "/eep_plan.json" : arguments.plan;
    const ExpertPlan plan = read_plan(path, &info);
    check_plan_model(
        plan, info, source.config, [&] { return model_hash(source); }, path);
    const auto progress = [&](size_t done, size_t total) {
      context.messages.progress("verify", static_cast<int64_t>(done >> 20), static_cast<int64_t>(total >> 20),
                                "MiB");
    };
    for (Check& check : verify_against(arguments.directory, *model, arguments.against, source, plan,
                                       context.options.device, progress)) {
      checks.push_back(std::move(check));
    }
    context.messages.finish_progress();
    if (!arguments.no_logits && passed()) {
      checks.push_back(compare_logits(*model, source, plan, context.options));
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

void register_verify(CLI::App& app, const SelectCommand& select) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("verify", "Check a checkpoint directory");
  command->add_option("DIR", arguments->directory, "checkpoint directory")->required();
  CLI::Option* against =
      command->add_option("--against", arguments->against, "model that the directory was exported from");
  command->add_option("--plan", arguments->plan, "the plan (default: DIR/eep_plan.json)")->needs(against);
  command->add_flag("--no-logits", arguments->no_logits, "compare bytes alone: neither model is run");
  command->add_flag("--json", arguments->json, "machine-readable");
  command->footer("Example: eep verify smaller --against experiments/demo/mixtral");
  command->callback([=] { select([=](CommandContext& context) { return verify(*arguments, context); }); });
}

}  // namespace eep
