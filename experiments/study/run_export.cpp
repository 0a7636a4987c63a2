#include "experiments/study/run_export.h"

#include <fmt/format.h>

#include "experiments/study/probe.h"
#include "experiments/study/routing_changes.h"
#include "experiments/study/version.h"
#include "loaders/formats/file.h"
#include "loaders/models/export.h"
#include "loaders/models/verify.h"

namespace eep {
namespace {

constexpr int64_t kRoutedTokens = 1024;  // of the task that the export's routing is looked at on
constexpr size_t kLoopPrompts = 8;       // of the task, continued
constexpr int32_t kLoopTokens = 32;      // by so many tokens
constexpr const char* kChecks = "export_check.json";

// Of gate rows that were mixed, and rounded; none where a checkpoint holds the source's own, nor where no
// process has all layers of the source.
std::optional<Check> routing_check(TaskContext& task, const ExpertPlan& plan, const RawModel& exported) {
  if (exported.plan || plan.router_space != RouterSpace::kLogits || hf_bit_exact(plan)) return std::nullopt;
  ModelContext& model = task.model();
  if (model.weights().link() != nullptr) return std::nullopt;
  const std::vector<std::vector<int32_t>> sequences =
      routed_sequences(task.evaluator(Split::kTrain).requests(), kRoutedTokens);
  return Check{
      "routing", true,
      routing_changes(exported, model.raw(), plan, sequences, model.weights(), task.memory()).text() +
          " than the plan, by rounded gate rows"};
}

// Scores may be fine where texts go round in circles: the task's first prompts continued greedily by the plan
// and by the full model. A fault where most of the plan's continuations loop and fewer than half as many of
// the full model's.
std::optional<Check> looping_check(TaskContext& task, const ExpertPlan& plan) {
  ModelContext& model = task.model();
  const ModelConfig& config = model.config();
  const Requests& requests = task.evaluator(Split::kTrain).requests();
  std::vector<std::vector<int32_t>> prompts;
  for (size_t item = 0; item < requests.items().size() && prompts.size() < kLoopPrompts; ++item) {
    const std::vector<int32_t>& prompt = requests.prompt_tokens(item);
    if (!prompt.empty() && static_cast<int64_t>(prompt.size()) + kLoopTokens <= config.max_positions)
      prompts.push_back(prompt);
  }
  if (prompts.empty()) return std::nullopt;
  const ExpertPlan full = identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                                        static_cast<int32_t>(config.top_k));
  const std::vector<ExpertPlan> plans{plan, full};
  const std::vector<std::vector<std::vector<int32_t>>> asked(2, prompts);
  GenerateOptions options;
  options.max_new = kLoopTokens;
  PopulationForward forward(model.weights(), task.memory());
  const auto stopped = [&](int32_t, int32_t, std::span<const int32_t> ids) { return requests.has_stop(ids); };
  const auto made = forward.generate(plans, asked, options, stopped);
  int64_t loops[2] = {0, 0};
  for (size_t at = 0; at < 2; ++at) {
    for (const std::vector<int32_t>& ids : made[at])
      loops[at] += probe_figures(ids, config.eos_token_ids).loops() ? 1 : 0;
  }
  const auto count = static_cast<int64_t>(prompts.size());
  return Check{"looping", 2 * loops[0] <= count || loops[0] <= 2 * loops[1],
               fmt::format("{} of {} continuations of at most {} tokens loop, {} of the full model's",
                           loops[0], count, kLoopTokens, loops[1])};
}

void write_checks(TaskContext& task, const ExpertPlan& plan, const std::string& directory,
                  const RunHooks& hooks) {
  std::optional<RawModel> exported;
  std::vector<Check> made = verify_directory(directory, exported);
  if (exported) {
    if (std::optional<Check> routing = routing_check(task, plan, *exported)) {
      hooks.say("export: " + routing->detail);
      made.push_back(std::move(*routing));
    }
    if (std::optional<Check> looping = looping_check(task, plan)) made.push_back(std::move(*looping));
  }
  Json checks = Json::array();
  bool passed = true;
  for (const Check& check : made) {
    checks.push_back({{"check", check.name}, {"passed", check.passed}, {"detail", check.detail}});
    passed = passed && check.passed;
    if (!check.passed) hooks.warn("the export fails a check: " + check.name + ": " + check.detail);
  }
  const Json json{{"passed", passed}, {"checks", checks}};
  const std::string file = directory.substr(0, directory.rfind('/') + 1) + kChecks;
  write_file_atomic(file, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// Why the plan needs eep's own layout; "" where Hugging Face's can express it.
std::string obstacle_of(const ModelContext& model, const ExpertPlan& plan, const Device& device) {
  const std::string obstacle = hf_obstacle(model.config(), plan);
  if (!obstacle.empty()) return "a stock checkpoint cannot express the plan: " + obstacle;
  const std::vector<RouterTie> ties = router_ties(model.raw(), plan, device);
  return ties.empty() ? "" : "stock loaders could not tell experts apart: " + ties[0].text();
}

void write_model(ModelContext& model, const ExpertPlan& plan, const Json& provenance,
                 const std::string& directory, const RunHooks& hooks) {
  ExportOptions options;
  options.source_hash = model.hash();
  options.program = std::string("eep ") + kVersion;
  options.progress = [&](size_t done, size_t total) { hooks.bytes("export", done, total); };
  const std::string obstacle = obstacle_of(model, plan, options.device);
  if (obstacle.empty()) {
    hooks.say("export to " + directory);
  } else {
    hooks.say("export to " + directory + " in eep's own layout: " + obstacle);
    options.format = ExportFormat::kNative;
  }
  export_checkpoint(model.raw(), model.path(), plan,
                    plan_info(model.config(), options.source_hash, provenance), options, directory);
}

}  // namespace

void export_run_model(TaskContext& task, const ExpertPlan& plan, const Json& provenance,
                      const std::string& directory, const RunHooks& hooks) {
  if (!directory_exists(directory)) write_model(task.model(), plan, provenance, directory, hooks);
  write_checks(task, plan, directory, hooks);
}

bool is_exported(const Experiment& experiment, const std::string& run_directory) {
  return experiment.export_format == "none" ||
         (directory_exists(run_directory + "/model") && file_exists(run_directory + "/" + kChecks));
}

}  // namespace eep
