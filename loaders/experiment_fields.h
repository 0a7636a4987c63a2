// The fields of an experiment file, stated once: the reader, the writer of resolved files and the JSON Schema
// all walk them.
#pragma once

#include "loaders/experiment.h"

namespace eep {

// Visitor: section(name, body), text(name, value, required), choice(name, value, allowed), integer(name,
// value, smallest, largest), number(name, value, smallest, largest), flag(name, value), words(name, list,
// allowed), groups(name, value).

template <typename Visitor>
void visit_split(Visitor& v, const char* name, SplitUse& use) {
  v.section(name, [&] {
    v.text("split", use.split, false);
    v.integer("limit", use.limit, 0, 1000000000);
  });
}

template <typename Visitor>
void visit_phase(Visitor& v, const char* name, PhaseSettings& phase) {
  v.section(name, [&] {
    v.choice("algorithm", phase.algorithm, {"eep", "eep_released", "random", "hill_climb"});
    v.integer("evaluations", phase.evaluations, 0, 10000000);
    v.integer("initial", phase.initial, 1, 1000000);
    v.number("flag_probability", phase.flag_probability, 0, 1);
    v.number("row_probability", phase.row_probability, 0, 1);
    v.number("element_probability", phase.element_probability, 0, 1);
    v.number("sigma", phase.sigma, 0, 100);
    v.number("normalise_probability", phase.normalise_probability, 0, 1);
    v.number("crossover_probability", phase.crossover_probability, 0, 1);
    v.number("crossover_first_parent", phase.crossover_first_parent, 0, 1);
    v.number("mutation_window_points", phase.mutation_window_points, 0, 100);
    v.number("crossover_window_points", phase.crossover_window_points, 0, 100);
    v.integer("crossover_window_minimum", phase.crossover_window_minimum, 2, 1000000);
    v.choice("parent_rule", phase.parent_rule, {"auto", "window", "ranking", "ranked_window"});
    v.integer("mutation_rank", phase.mutation_rank, 1, 1000000);
    v.integer("crossover_rank", phase.crossover_rank, 2, 1000000);
  });
}

template <typename Visitor>
void visit_experiment(Visitor& v, Experiment& e) {
  v.text("name", e.name, false);
  v.integer("seed", e.seed, 0, INT64_MAX);
  v.section("model", [&] {
    v.text("path", e.model_path, true);
    v.choice("dtype", e.model_dtype, {"auto"});
    v.choice("parity", e.model_parity, {"none", "hf", "eep"});
  });
  v.section("task", [&] {
    v.text("name", e.task, true);
    visit_split(v, "train", e.train);
    visit_split(v, "dev", e.dev);
    visit_split(v, "test", e.test);
    v.choice("protocol", e.protocol, {"harness", "eep"});
  });
  v.section("plan", [&] {
    v.required_integer("experts", e.experts, 1, 512);
    v.integer("top_k", e.top_k, 0, 16);
    v.groups("groups", e.groups);
    v.choice("router_space", e.router_space, {"logits", "probabilities"});
  });
  v.section("search", [&] {
    v.integer("population", e.population, 1, 100000);
    v.choice("fitness", e.fitness, {"metric", "metric_then_loglik", "loglik"});
    v.integer("dev_count", e.dev_count, 1, 100000);
    v.flag("warm_start", e.warm_start);
    visit_phase(v, "prune", e.prune);
    visit_phase(v, "merge", e.merge);
  });
  v.words(
      "baselines", e.baselines,
      {"full", "random", "frequency", "soft_activation", "soft_activation_selected", "soft_activation_all",
       "ean", "wean", "man", "msan", "reap", "reap_probability", "reap_l2", "max_activation", "naee"});
  v.integer("random_draws", e.random_draws, 1, 10000);
  v.section("calibration", [&] {
    v.integer("limit", e.calibration_limit, 0, 1000000000);
    v.integer("subset_tokens", e.subset_tokens, 1, 1000000000);
    v.integer("sampled_subsets", e.sampled_subsets, 1, 10000);
  });
  v.section("export", [&] { v.choice("format", e.export_format, {"none", "hf"}); });
}

}  // namespace eep
