// bench_model: a synthetic model of any released size, evaluated by a population of candidates: B7 (a layer,
// a slice), B8 (a generation of the search) and B9 (decode steps).
//
//   bench_model CONFIG.json [--layers N] [--device D] [--memory M] [--threads N] [--candidates P] [--prompts
//   B] [--tokens T]
//     [--kept N] [--phase full|prune|merge] [--dense PERCENT] [--decode STEPS] [--target TOKENS_PER_SECOND]
//
// Each prompt has T random tokens and one scored position. full: the unchanged model, as P equal candidates,
// which share all work. prune: each candidate keeps N random experts (default half). merge: and merges the
// others into them, with PERCENT of the coefficients not zero. With --decode each candidate continues its B
// prompts by STEPS tokens, and the time of the prompts is told apart. One JSON line. Two runs of the same
// population must give the same scores.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "bench/command_line.h"
#include "bench/synthetic_model.h"
#include "engine/forward.h"
#include "engine/weight_plan.h"
#include "experiments/program/command_line.h"
#include "experiments/program/options.h"
#include "loaders/formats/json.h"

namespace eep {
namespace {

struct Options {
  CommonOptions common;
  std::string config, phase = "prune";
  int64_t layers = 0, prompts = 64, tokens = 512, decode = 0;
  int32_t candidates = 1, kept = 0, dense = 100;
  double target = 0;
};

uint32_t draw(uint32_t a, uint32_t b, uint32_t c) { return philox({a, b, c, 9}, 24)[0]; }

ExpertPlan plan_of(const ModelConfig& config, const Options& options, uint32_t candidate) {
  const auto experts = static_cast<int32_t>(config.num_experts);
  if (options.phase == "full")
    return identity_plan(config.sparse, experts, static_cast<int32_t>(config.top_k));
  const int32_t kept = options.kept > 0 ? options.kept : std::max(1, experts / 2);
  ExpertPlan plan;
  plan.top_k = static_cast<int32_t>(config.top_k);
  for (auto& layers : split_layers(config.sparse, static_cast<int32_t>(config.sparse_layers()))) {
    const auto layer = static_cast<uint32_t>(layers[0]);
    std::vector<int32_t> chosen;
    for (int32_t e = 0; e < experts; ++e) chosen.push_back(e);
    for (int32_t i = 0; i < kept; ++i) {
      const auto rest = static_cast<uint32_t>(experts - i);
      std::swap(chosen[static_cast<size_t>(i)],
                chosen[static_cast<size_t>(i) + draw(candidate, layer, static_cast<uint32_t>(i)) % rest]);
    }
    chosen.resize(static_cast<size_t>(kept));
    std::sort(chosen.begin(), chosen.end());
    plan.groups.push_back(one_hot_group(layers, chosen, experts));
    if (options.phase != "merge") continue;
    auto& coefficient = plan.groups.back().expert_merging;
    for (size_t i = 0; i < coefficient.size(); ++i) {
      const uint32_t word = draw(candidate, layer, 1000 + static_cast<uint32_t>(i));
      if (static_cast<int32_t>(word % 100) < options.dense)
        coefficient[i] += 0.1f * philox_uniform(word) + 0.01f;
    }
  }
  return plan;
}

std::vector<int32_t> tokens_of(const ModelConfig& config, const Options& options, uint32_t prompt) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < options.tokens; ++i) {
    tokens.push_back(static_cast<int32_t>(draw(prompt, static_cast<uint32_t>(i), 7) %
                                          static_cast<uint32_t>(config.vocab_size)));
  }
  return tokens;
}

// FLOPs of one token in all layers: dense products, experts, and attention over half of its sequence.
double flops_per_token(const ModelConfig& config, int64_t length) {
  const auto hidden = static_cast<double>(config.hidden_size),
             q = static_cast<double>(config.num_heads * config.head_dim);
  const auto kv = static_cast<double>(config.num_kv_heads * config.head_dim);
  double flops = 0;
  for (uint8_t sparse : config.sparse) {
    flops += 2 * hidden * (2 * q + 2 * kv) + 4 * q * static_cast<double>(length) / 2;
    flops += sparse == 0 ? 6 * hidden * static_cast<double>(config.dense_intermediate_size)
                         : 6 * hidden *
                                   static_cast<double>(config.top_k * config.expert_intermediate_size +
                                                       config.shared_intermediate_size) +
                               2 * hidden * static_cast<double>(config.num_experts);
  }
  return flops;
}

double log_likelihood(const std::vector<std::vector<TokenScore>>& scores) {
  double sum = 0;
  for (const auto& candidate : scores)
    for (const TokenScore& score : candidate) sum += static_cast<double>(score.log_probability);
  return sum;
}

int run(Options& options) {
  options.common.resolve();
  const Ops& ops = *options.common.ops;
  const Device& device = options.common.device;
  const bench::SyntheticModel model(options.config, options.layers, ops, device);
  const ModelConfig& config = model.raw().config;
  const WeightPlan weight_plan = plan_weights(config, ops, options.common.memory);
  std::unique_ptr<Weights> weights;
  const double build_seconds = ops.seconds(
      [&] { weights = std::make_unique<Weights>(model.raw(), Backend(model.ops(), device), weight_plan); },
      device);
  PopulationForward forward(*weights, options.common.memory);

  std::vector<ExpertPlan> plans;
  for (int32_t i = 0; i < options.candidates; ++i)
    plans.push_back(plan_of(config, options, static_cast<uint32_t>(i)));
  PromptBuilder builder;
  for (int64_t i = 0; i < options.prompts; ++i) {
    const auto tokens = tokens_of(config, options, static_cast<uint32_t>(i));
    builder.add(tokens, static_cast<int32_t>(tokens.size()) - 1, true);
  }
  std::vector<PromptBuilder::Sequence> sequences;
  const Prompts prompts = builder.build(&sequences);
  const MemoryPlan memory = forward.memory_plan(plans, prompts);
  std::cerr << describe(memory) << "\n";

  forward.score(std::span(plans).subspan(0, 1), prompts);  // takes the buffers
  forward.reset_work();
  std::vector<std::vector<TokenScore>> scores;
  const double seconds = ops.seconds([&] { scores = forward.score(plans, prompts); }, device);
  const WorkCounts work = forward.work();
  const bool same = log_likelihood(forward.score(plans, prompts)) == log_likelihood(scores);

  const double asked = static_cast<double>(work.tokens_asked),
               computed = static_cast<double>(work.tokens_computed);
  Json line{{"config", options.config},
            {"device", ops.name},
            {"layers", config.num_layers},
            {"candidates", options.candidates},
            {"prompts", options.prompts},
            {"tokens", options.tokens},
            {"phase", options.phase},
            {"packed_bytes", Weights::packed_bytes(config, ops)},
            {"streamed_layers", weight_plan.streamed_layers()},
            {"host_bytes", model.host_bytes()},
            {"weights_seconds", build_seconds},
            {"seconds", seconds},
            {"tokens_asked", work.tokens_asked},
            {"tokens_computed", work.tokens_computed},
            {"merged_experts", work.merged_experts},
            {"merge_bytes", work.merge_bytes},
            {"expert_bytes", work.expert_bytes},
            {"chunk_rows", memory.chunk_rows},
            {"block_rows", memory.block_rows},
            {"candidates_together", memory.candidates},
            {"merged_at_once", memory.merged_at_once},
            {"tokens_per_second", asked / seconds},
            {"computed_tokens_per_second", computed / seconds},
            {"tflop_per_second", computed * flops_per_token(config, options.tokens) / seconds / 1e12},
            {"log_likelihood", log_likelihood(scores)},
            {"same_twice", same}};
  if (options.target > 0) line["target_tokens_per_second"] = options.target;
  if (options.decode > 0) {
    std::vector<std::vector<int32_t>> own;
    for (int64_t i = 0; i < options.prompts; ++i)
      own.push_back(tokens_of(config, options, static_cast<uint32_t>(i)));
    const std::vector<std::vector<std::vector<int32_t>>> lanes(plans.size(), own);
    const auto continued = [&](int64_t steps) {
      return ops.seconds(
          [&] {
            forward.generate(plans, lanes, {static_cast<int32_t>(steps), true},
                             [](int32_t, int32_t, std::span<const int32_t>) { return false; });
          },
          device);
    };
    const double first = continued(1), all = continued(1 + options.decode);
    line["decode_sequences"] = static_cast<int64_t>(options.candidates) * options.prompts;
    line["decode_step_seconds"] = (all - first) / static_cast<double>(options.decode);
  }
  std::cout << line.dump() << "\n";
  return same ? 0 : 1;
}

}  // namespace
}  // namespace eep

int main(int argc, char** argv) {
  eep::Options options;
  CLI::App app{"a synthetic model under a population of candidates", "bench_model"};
  options.common.add_to(eep::Command(&app));
  app.add_option("config", options.config, "config.json of a model")->required();
  app.add_option("--layers", options.layers, "as many of its layers (default: all)");
  app.add_option("--candidates", options.candidates, "in the population")->check(CLI::Range(1, 4096));
  app.add_option("--prompts", options.prompts, "of each candidate")->check(CLI::Range(1, 1 << 20));
  app.add_option("--tokens", options.tokens, "of a prompt")->check(CLI::Range(2, 1 << 20));
  app.add_option("--kept", options.kept, "experts that stay (default: half)");
  app.add_option("--phase", options.phase, "full, prune or merge")
      ->check(CLI::IsMember({"full", "prune", "merge"}));
  app.add_option("--dense", options.dense, "percent of merging coefficients that are not zero");
  app.add_option("--decode", options.decode, "steps after the prompts");
  app.add_option("--target", options.target, "tokens per second, for the report");
  if (const auto status = eep::bench::parsed(app, argc, argv)) return *status;
  try {
    return eep::run(options);
  } catch (const eep::Error& error) {
    std::cerr << "bench_model: " << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
