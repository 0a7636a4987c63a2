// The fields of an experiment file, stated once: the reader, the writer of resolved files and the JSON Schema
// all walk them.
#pragma once

#include <algorithm>

#include "es/algorithms.h"
#include "es/criteria.h"
#include "experiments/study/experiment.h"
#include "experiments/study/skipping.h"
#include "kernels/router.h"

namespace eep {

inline std::vector<std::string> strings(std::span<const std::string_view> names) {
  return {names.begin(), names.end()};
}

// Visitor: section(name, body), text(name, value, required), word(name, value, allowed), integer(name, value,
// smallest, largest), number(name, value, smallest, largest), flag(name, value), choice(name, value, names),
// words(name, list, allowed), tasks(name, list), groups(name, value), kept(name, experiment), active(name,
// experiment); holds(section, used): whether the file has the section of
// an algorithm's own parameters.

// Parameters of es/ as fields.
template <typename Visitor>
class ParameterFields final : public ParameterVisitor {
 public:
  explicit ParameterFields(Visitor& v) : v_(v) {}

  void number(const char* name, double& value, double smallest, double largest) override {
    v_.number(name, value, smallest, largest);
  }
  void integer(const char* name, int32_t& value, int32_t smallest, int32_t largest) override {
    v_.integer(name, value, smallest, largest);
  }
  void flag(const char* name, bool& value) override { v_.flag(name, value); }
  void choice(const char* name, uint8_t& value, std::span<const std::string_view> names) override {
    v_.choice(name, value, names);
  }
  void constant(const char*, double&, double, double) override {}

 private:
  Visitor& v_;
};

// What plan.experts may be: a number, or a map of these three.
constexpr int64_t kMostExperts = kMaxExperts, kMostKept = 1000000, kMostActive = kMaxTopK;

// The score is always one.
template <typename Visitor>
void visit_objectives(Visitor& v, Objectives& objectives) {
  std::vector<std::string> names{"score"};
  if (objectives.parameters) names.emplace_back("parameters");
  if (objectives.active) names.emplace_back("active");
  v.words("objectives", names, {"score", "parameters", "active"});
  const auto has = [&](const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  objectives = {has("parameters"), has("active")};
}

template <typename Visitor>
void visit_racing(Visitor& v, RacingConfig& racing) {
  if (!v.holds("racing", racing.on)) return;
  v.flag("racing", racing.on);
  v.integer("racing_items", racing.first, 2, kMostRaceItems);
  v.number("racing_errors", racing.errors, kLeastRaceErrors, kMostRaceErrors);
}

// shards: of the train split, or null.
template <typename Visitor>
void visit_split(Visitor& v, const char* name, SplitUse& use, ShardConfig* shards = nullptr) {
  v.section(name, [&] {
    v.text("split", use.split, false);
    v.integer("limit", use.limit, 0, 1000000000);
    if (shards == nullptr) return;
    if (v.holds("shard", shards->shard != 0)) v.integer("shard", shards->shard, 0, kMaxShardItems);
    if (v.holds("fixed", shards->fixed != 0)) v.integer("fixed", shards->fixed, 0, kMaxShardItems);
  });
}

template <typename Visitor>
void visit_phase(Visitor& v, PhaseConfig& config, Phase phase) {
  v.section(to_string(phase), [&] {
    v.word("algorithm", config.algorithm, strings(algorithm_names(phase)));
    v.integer("evaluations", config.evaluations, phase == Phase::kPrune ? 1 : 0, kMaxEvaluations);
    ParameterFields<Visitor> fields(v);
    visit(fields, config.parameters);
    for (size_t i = 0; i < algorithms().size(); ++i) {
      const AlgorithmRow& row = algorithms()[i];
      Parameters& own = config.own.at(i);
      // A resolved file holds those that the search reads or that were set: a new algorithm changes no file.
      const bool used = row.name == config.algorithm || !(own == row.own);
      if (own.empty() || !v.holds(row.name, used)) continue;
      v.section(std::string(row.name).c_str(), [&] { own.walk(fields); });
    }
  });
}

template <typename Visitor>
void visit_experiment(Visitor& v, Experiment& e) {
  v.text("name", e.name, false);
  v.integer("seed", e.search.seed, 0, INT64_MAX);
  v.section("model", [&] {
    v.text("path", e.model_path, true);
    v.word("dtype", e.model_dtype, {"auto", "f32", "f16", "bf16"});
    v.word("parity", e.model_parity, {"none", "hf", "eep"});
    if (v.holds("precision", e.model_precision != "f32"))
      v.word("precision", e.model_precision, {"f32", "bf16"});
  });
  v.section("task", [&] {
    v.text("name", e.task, true);
    visit_split(v, "train", e.train, &e.search.shards);
    visit_split(v, "dev", e.dev);
    visit_split(v, "test", e.test);
    v.word("protocol", e.protocol, {"harness", "eep"});
    v.flag("allow_overlap", e.allow_overlap);
  });
  if (v.holds("tasks", !e.tasks.empty())) {
    v.tasks("tasks", e.tasks);
    v.word("fitness_over", e.fitness_over, {"mean", "min"});
  }
  v.section("plan", [&] {
    v.kept("experts", e);
    v.active("top_k", e);
    v.groups("groups", e.groups);
    v.word("router_space", e.router_space, {"logits", "probabilities"});
  });
  v.section("search", [&] {
    v.integer("population", e.search.population, 1, kMaxPopulation);
    ParameterFields<Visitor> fields(v);
    visit_choice(fields, "fitness", e.search.fitness, fitness_names());
    if (v.holds("objectives", e.search.objectives.several())) visit_objectives(v, e.search.objectives);
    v.integer("dev_count", e.dev_count, 1, 100000);
    v.flag("warm_start", e.warm_start);
    visit_racing(v, e.search.racing);
    if (v.holds("start", !e.start.empty())) v.text("start", e.start, false);
    visit_phase(v, e.search.prune, Phase::kPrune);
    visit_phase(v, e.search.merge, Phase::kMerge);
  });
  std::vector<std::string> methods{"full"};
  for (const std::string_view name : criterion_names()) methods.emplace_back(name);
  for (const SkippingRow& row : skipping_methods()) methods.emplace_back(row.name);
  v.words("baselines", e.baselines, methods);
  v.integer("random_draws", e.random_draws, 1, 10000);
  if (v.holds("controls", !e.controls.empty()))
    v.words("controls", e.controls, {"prune_only", "random", "eep"});
  v.section("calibration", [&] {
    v.integer("limit", e.calibration_limit, 0, 1000000000);
    v.integer("subset_tokens", e.subset_tokens, 1, 1000000000);
    v.integer("sampled_subsets", e.sampled_subsets, 1, 10000);
  });
  v.section("export", [&] { v.word("format", e.export_format, {"none", "hf"}); });
}

}  // namespace eep
