// A small search, prune and merge phase, on a synthetic model of each family and on every target of the
// machine: one hash of the archive a family and target. Built for x86 and, without Highway's library, for
// aarch64; all lines of a family must show the same hash.
#include "es/search.h"

#include <cstdio>

#include "engine/forward.h"
#include "kernels/cpu/cpu_target.h"
#include "tests/engine/synthetic.h"

namespace {

using namespace eep;
using namespace eep::test;

constexpr int32_t kSequences = 12, kLength = 9, kScored = 3;

// The last tokens of random sequences are to be predicted.
Prompts prompts_of(const ModelConfig& config) {
  PromptBuilder builder;
  for (uint32_t sequence = 0; sequence < kSequences; ++sequence) {
    builder.add(random_tokens(config, kLength, sequence), kLength - kScored);
  }
  return builder.build(nullptr);
}

// The share of tokens that the arg-max is right about, and their mean log-likelihood.
std::vector<Evaluation> evaluate(PopulationForward& forward, const GenomeSpace& space, const Prompts& prompts,
                                 std::span<const Genome> genomes) {
  std::vector<ExpertPlan> plans;
  for (const Genome& genome : genomes) plans.push_back(to_plan(space, genome));
  std::vector<Evaluation> results;
  for (const std::vector<TokenScore>& scores : forward.score(plans, prompts)) {
    double right = 0, loglik = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      right += scores[i].argmax == prompts.scores[i].target;
      loglik += scores[i].log_probability;
    }
    const double n = static_cast<double>(scores.size());
    results.push_back({right / n, loglik / n, static_cast<int32_t>(scores.size())});
  }
  return results;
}

std::string archive_of_search(Family family, DType dtype) {
  ModelConfig config = tiny_config(family);
  config.dtype = dtype;
  const SyntheticModel model(config, 7);
  Device device;
  device.threads = 2;
  const Weights weights(model.raw, {cpu_ops(), device});
  PopulationForward forward(weights, 0);
  const Prompts prompts = prompts_of(config);

  GenomeSpace space;
  space.experts = static_cast<int32_t>(config.num_experts);
  space.top_k = static_cast<int32_t>(config.top_k);
  space.layers = split_layers(config.sparse, 2);
  space.kept = {3, 3};
  SearchConfig search_config{.fitness = FitnessKind::kMetricThenLoglik};
  search_config.population = 8;
  search_config.prune.evaluations = 24;
  search_config.merge.evaluations = 40;
  Search search(space, search_config);
  search.run([&](std::span<const Genome> genomes) { return evaluate(forward, space, prompts, genomes); });

  std::string text;
  for (const ArchiveEntry& entry : search.archive().entries()) {
    text += archive_line(entry, search.archive().fitness_kind()) + "\n";
  }
  return text;
}

// FNV-1a over bytes.
uint64_t hash(const std::string& text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

}  // namespace

int main() {
  for (const std::string& target : cpu_targets()) {
    set_cpu_target(target);
    for (const auto& [name, family, dtype] : {std::tuple{"mixtral", Family::kMixtral, DType::kBF16},
                                              {"qwen2_moe", Family::kQwen2Moe, DType::kF32},
                                              {"qwen3_moe", Family::kQwen3Moe, DType::kF16}}) {
      std::printf("search.%s %016llx %s\n", name,
                  static_cast<unsigned long long>(hash(archive_of_search(family, dtype))), target.c_str());
    }
  }
}
