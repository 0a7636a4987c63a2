#include "experiments/study/experiment_template.h"

#include <fmt/format.h>

#include <algorithm>

#include "loaders/formats/yaml.h"

namespace eep {
namespace {

constexpr int64_t kMostTrain = 512, kMostSharded = 2048, kMostDev = 256, kMostTest = 1000;
constexpr int64_t kShard = 128;
constexpr int64_t kManyLayers = 8;  // above: groups of layers, as the paper has them

// "train: {limit: 512}", or without a limit where the split is no larger.
std::string split_line(const char* split, int64_t items, int64_t most, const std::string& more = {}) {
  std::string fields = items > most ? fmt::format("limit: {}", most) : std::string();
  if (!more.empty()) fields += (fields.empty() ? "" : ", ") + more;
  return fmt::format("  {}: {{{}}}", split, fields.empty() ? fmt::format("split: {}", split) : fields);
}

std::string task_section(const TemplateFacts& facts, bool sharded) {
  const auto items = [&](const char* split) {
    const auto found = facts.items.find(split);
    return found == facts.items.end() ? int64_t{0} : found->second;
  };
  std::string text = "task:\n  name: " + yaml_string(facts.task) + "\n";
  text += fmt::format(
      "  # The search scores its candidates on these ({} items in the split). More items cost time; fewer "
      "are\n"
      "  # fitted by chance.{}\n",
      items("train"), sharded ? " Each generation of the merge phase sees a fresh shard of them." : "");
  const std::string shards = fmt::format("shard: {0}, fixed: {0}", kShard);
  text +=
      split_line("train", items("train"), sharded ? kMostSharded : kMostTrain, sharded ? shards : "") + "\n";
  if (facts.items.count("dev") != 0) {
    text += fmt::format("  # Which of the best candidates is taken ({} items in the split).\n", items("dev"));
    text += split_line("dev", items("dev"), kMostDev) + "\n";
  } else {
    text += "  # The task has no dev split: the best candidate on the train items is taken.\n";
  }
  text += fmt::format("  # Scored once, at the end ({} items in the split).\n", items("test"));
  return text + split_line("test", items("test"), kMostTest) + "\n";
}

std::string plan_section(const ModelConfig& config) {
  const int64_t half = std::max<int64_t>(1, config.num_experts / 2);
  std::string text = "plan:\n";
  text += fmt::format("  experts: {}  # stay in every layer, of {}\n", half, config.num_experts);
  if (config.sparse_layers() > kManyLayers) {
    text += fmt::format(
        "  groups: 4  # runs of layers that share one choice; per_layer: each of the {} its own, a larger "
        "search\n",
        config.sparse_layers());
  } else {
    text +=
        "  groups: per_layer  # every layer its own choice; a number: as many runs of layers that share "
        "one\n";
  }
  text += fmt::format("  # top_k: {}  # experts active a token: the model's own where nothing is said\n",
                      std::max<int64_t>(1, std::min(config.top_k, half)));
  return text +
         "  # router_space: logits  # stock loaders can express it; probabilities is the paper's map\n";
}

}  // namespace

std::string experiment_template(const ModelConfig& config, const TemplateFacts& facts) {
  const auto train = facts.items.find("train");
  const bool sharded = train != facts.items.end() && train->second >= 4 * kShard;
  std::string name;  // of the run directory
  for (const char c : facts.task_name)
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' ? c : '_';
  std::string text = fmt::format(
      "# {}: {} layers with {} experts each, {} active a token, {}.\n"
      "# What it will do and take:  eep run FILE --dry-run      Every field:  docs/experiments.md, eep list "
      "schema\n"
      "name: {}\n\nmodel: {{path: {}}}\n\n",
      family_name(config.family), config.sparse_layers(), config.num_experts, config.top_k,
      dtype_name(config.dtype),
      yaml_string(
          fmt::format("{}-{}to{}", name, config.num_experts, std::max<int64_t>(1, config.num_experts / 2))),
      yaml_string(facts.model));
  text += task_section(facts, sharded) + "\n" + plan_section(config) + "\n";
  text +=
      "search:\n"
      "  population: 32  # candidates evaluated together: more share more work and take more memory\n"
      "  # metric: the paper's; metric_then_loglik: ties broken by the likelihood of the right answers\n"
      "  fitness: metric_then_loglik\n"
      "  dev_count: 10  # candidates that stand for choice on the dev items\n"
      "  prune: {algorithm: eep, evaluations: 101}  # which experts stay\n";
  text += fmt::format(
      "  # How the others are merged into them. 'eep list algorithms' names more.\n"
      "  merge: {{algorithm: {}, evaluations: 301}}\n\n",
      sharded ? "rsgn" : "eep");
  text +=
      "# One-shot methods to compare with, from one calibration pass. 'eep list criteria' names more.\n"
      "baselines: [full, random, frequency, soft_activation, ean, reap, naee]\n"
      "# Searches beside the main one at the same cost: what merging gains over pruning alone.\n"
      "# controls: [prune_only]\n\n"
      "export: {format: hf}  # the pruned checkpoint, as model/ of the run directory; none: the plan "
      "alone\n\n";
  const int64_t quarter = std::max<int64_t>(1, config.num_experts / 4);
  text += fmt::format(
      "# One run a combination, one table and one report at the end.\n"
      "# sweep:\n#   plan.experts: [{}, {}]  # then without plan.experts above\n#   seed: [1, 2, 3]\n",
      std::max<int64_t>(1, config.num_experts / 2), quarter);
  return text;
}

}  // namespace eep
