// The experiment file: defaults, strictness, overrides, sweeps, the resolved file and the schema.
#include <doctest/doctest.h>

#include "experiments/study/experiment.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "tests/loaders/scratch.h"

using namespace eep;

namespace {

const std::string kTasks = std::string(EEP_SOURCE_DIR) + "/experiments";
const char* const kSmall = "model: {path: m}\ntask: {name: sort}\nplan: {experts: 4}\n";

Experiment parse(const std::string& text, const Overrides& overrides = {}) {
  return parse_experiment(text, "e.yaml", kTasks, overrides);
}

std::string refusal(const std::string& text, const Overrides& overrides = {}) {
  try {
    parse(text, overrides);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kConfig);
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("experiment: the defaults are the official constants") {
  const Experiment e = parse(kSmall);
  CHECK(e.search.seed == 11450);
  CHECK(e.search.prune.evaluations == 101);
  CHECK(e.search.merge.evaluations == 301);
  CHECK(e.search.merge.parameters.initial == 31);
  CHECK(e.search.merge.parameters.sigma == 0.065);
  CHECK(e.search.merge.parameters.flag_probability == 0.25);
  CHECK(e.search.prune.parameters.row_probability == 0.15);
  CHECK(e.search.merge.parameters.crossover_probability == 0.3);
  CHECK(e.search.merge.parameters.mutation_window_points == 3.0);
  CHECK(e.search.fitness == FitnessKind::kMetricThenLoglik);
  CHECK(e.warm_start);
}

TEST_CASE("experiment: the example of the documentation is accepted") {
  const Experiment e = parse(R"(name: recall-8to4
seed: 11450
model: {path: experiments/demo/model, dtype: auto}
task: {name: recall, train: {split: train, limit: 128}, dev: {split: dev}, test: {split: test}, protocol: harness}
plan: {experts: 4, top_k: 2, groups: 4, router_space: logits}
search:
  population: 32
  fitness: metric_then_loglik
  prune: {algorithm: eep, evaluations: 101}
  merge: {algorithm: eep, evaluations: 301, sigma: 0.065}
baselines: [full, random, frequency, soft_activation, naee, reap]
sweep: {task.name: [recall, sort], plan.experts: [4, 2], seed: [1, 2, 3]}
export: {format: hf}
)");
  CHECK(e.train.limit == 128);
  CHECK(e.sweep.size() == 3);
  CHECK(e.sweep[2].second == std::vector<std::string>{"1", "2", "3"});
  CHECK(e.export_format == "hf");
}

TEST_CASE("experiment: mistakes are named with their place") {
  const std::string small = kSmall;
  CHECK(refusal("task: {name: sort}\nplan: {experts: 4}\n").find("model.path is missing") !=
        std::string::npos);
  CHECK(refusal("model: {path: m}\ntask: {name: sort}\n").find("plan.experts is missing") !=
        std::string::npos);
  CHECK(refusal(small + "sead: 3\n").find("e.yaml:4:1: unknown key sead") == 0);
  CHECK(refusal(small + "search: {merge: {sigam: 1}}\n").find("unknown key search.merge.sigam") !=
        std::string::npos);
  CHECK(refusal(small + "search: {merge: {sigma: many}}\n")
            .find("search.merge.sigma: wrong value (expected a number in 0..10, got many)") !=
        std::string::npos);
  CHECK(refusal(small + "search: {population: 0}\n")
            .find("search.population: wrong value (expected a whole number in 1..100000, got 0)") !=
        std::string::npos);
  CHECK(refusal(small + "search: {prune: {evaluations: 0}}\n").find("in 1..10000000, got 0)") !=
        std::string::npos);
  CHECK(refusal(small + "search: {merge: {flag_probability: 0}}\n").find("in 0.001..1, got 0)") !=
        std::string::npos);
  CHECK(refusal(small + "search: {fitness: accuracy}\n").find("search.fitness: unknown value") !=
        std::string::npos);
  CHECK(refusal(small + "search: {warm_start: yes}\n").find("expected true or false, got yes") !=
        std::string::npos);
  CHECK(refusal(small + "baselines: [full, full]\n").find("named twice") != std::string::npos);
  CHECK(refusal(small + "baselines: {a: 1}\n").find("expected a list") != std::string::npos);
  CHECK(refusal(small + "seed: 1\nseed: 2\n").find("duplicate key seed") != std::string::npos);
  CHECK(refusal(small + "name: a/b\n").find("name: it names a directory") != std::string::npos);
  CHECK(refusal(small + "sweep: {seed: []}\n").find("no values") != std::string::npos);
  CHECK(refusal(small + "sweep: {seed: [1, 1]}\n").find("the same value twice") != std::string::npos);
  CHECK(
      refusal("model: {path: m}\ntask: {name: sort}\nplan: {experts: 4, groups: none}\n").find("per_layer") !=
      std::string::npos);
  CHECK(refusal(small, {"plan.expert=3"}).find("--set plan.expert: unknown key plan.expert") == 0);
  CHECK_THROWS_AS(parse(small, {"nonsense"}), Error);
}

TEST_CASE("experiment: overrides win") {
  const Experiment e = parse(kSmall, {"plan.experts=2", "search.merge.sigma=0.1", "baselines=[full, reap]"});
  CHECK(e.experts == 2);
  CHECK(e.search.merge.parameters.sigma == 0.1);
  CHECK(e.baselines == std::vector<std::string>{"full", "reap"});
}

TEST_CASE("experiment: the resolved file reads back as the same experiment") {
  const Experiment e =
      parse(kSmall, {"search.prune.algorithm=hill_climb", "plan.groups=per_layer", "search.merge.sigma=0.1"});
  const std::string text = resolved_yaml(e);
  const Experiment again = parse_experiment(text, "again.yaml", "/", {});
  CHECK(resolved_yaml(again) == text);
  Experiment expected = e;
  expected.directory = again.directory;
  expected.model_path = kTasks + "/m";
  expected.task = kTasks + "/tasks/sort.yaml";
  CHECK(again == expected);
  CHECK(again.groups == "per_layer");
  CHECK(again.task.ends_with("/tasks/sort.yaml"));
}

TEST_CASE("experiment: a sweep is every combination, the last key fastest") {
  const Scratch scratch;
  const std::string file = scratch.path("sweep.yaml");
  write_file_atomic(file,
                    "model: {path: m}\ntask: {name: x}\nplan: {experts: 2}\nsweep: {task.name: [recall, "
                    "sort], plan.experts: [4, 2]}\n");
  const std::vector<Combination> all = expand_sweep(file);
  REQUIRE(all.size() == 4);
  CHECK(all[0].name == "task.name=recall,plan.experts=4");
  CHECK(all[1].name == "task.name=recall,plan.experts=2");
  CHECK(all[3].name == "task.name=sort,plan.experts=2");
  CHECK(all[3].experiment.task == "sort");
  CHECK(all[3].experiment.experts == 2);
  CHECK(all[0].experiment.sweep.empty());
  write_file_atomic(file,
                    "model: {path: m}\ntask: {name: sort}\nsweep: {plan.experts: [4, many]}\nplan: {}\n");
  CHECK_THROWS_AS(expand_sweep(file), Error);
}

TEST_CASE("experiment: what may be swept") {
  const Scratch scratch;
  const auto expand = [&](const std::string& text, const Overrides& overrides = {}) {
    return expand_sweep(scratch.write("e.yaml", text), overrides);
  };
  const std::string small = kSmall;
  CHECK(expand(small).size() == 1);
  CHECK(expand(small)[0].name.empty());
  CHECK(expand(small)[0].experiment.name == "e");
  // From the command line, a key with dots; and nothing but the sweep has the value.
  const auto tasks = expand(small, {"sweep.task.name=[recall, sort]", "sweep.seed=[1, 2]"});
  REQUIRE(tasks.size() == 4);
  CHECK(tasks[1].name == "task.name=recall,seed=2");
  CHECK(expand("model: {path: m}\ntask: {name: sort}\nsweep: {plan.experts: [2]}\n")[0].experiment.experts ==
        2);
  // Paths: a directory's name has no slash.
  const auto models = expand(small, {"sweep.model.path=[demo/mixtral, demo/qwen]"});
  REQUIRE(models.size() == 2);
  CHECK(models[1].name == "model.path=demo_qwen");
  CHECK(models[1].experiment.model_path == "demo/qwen");
  // One model has one name, however it is spelt.
  const auto spelt = expand(small, {"sweep.model.path=[demo/mixtral, " + scratch.path("b") + ", /else/b]"});
  REQUIRE(spelt.size() == 3);
  CHECK(spelt[1].name == "model.path=b");
  CHECK(spelt[2].name == "model.path=_else_b");
  // Relative paths start where paths_from says: what a resolved file of swept paths holds.
  const auto moved = expand("paths_from: own\n" + small, {"sweep.model.path=[a, b]"});
  REQUIRE(moved.size() == 2);
  CHECK(moved[1].name == "model.path=b");
  CHECK(moved[1].experiment.directory == scratch.path("own"));
  // Names of tasks beside the file that task.name names: what a resolved file holds.
  scratch.write("own/b.yaml", "");
  const auto beside = expand(
      "model: {path: m}\ntask: {name: own/a.yaml}\nplan: {experts: 1}\n"
      "sweep: {task.name: [b, c]}\n");
  CHECK(beside[0].experiment.task == scratch.path("own/b.yaml"));
  CHECK(beside[1].experiment.task == "c");

  // An override takes the place of the list, and says so.
  std::vector<std::string> notes;
  const std::string swept = scratch.write("s.yaml", small + "sweep: {plan.experts: [4, 2], seed: [1, 2]}\n");
  const auto three = expand_sweep(swept, {"plan.experts=3", "seed=1"}, &notes);
  REQUIRE(three.size() == 1);
  CHECK(three[0].name == "plan.experts=3,seed=1");
  CHECK(three[0].experiment.experts == 3);
  CHECK(notes == std::vector<std::string>{"plan.experts: 3 in place of the sweep's values",
                                          "seed: 1 in place of the sweep's values"});
  check_error(ExitCode::kConfig, "in 1..1024, got 1999", [&] { expand_sweep(swept, {"plan.experts=1999"}); });

  const auto refuse = [&](const std::string& sweep, const std::string& part) {
    check_error(ExitCode::kConfig, part, [&] { expand(small + "sweep: " + sweep + "\n"); });
  };
  refuse("{seed: 3}", "e.yaml:4:15: sweep.seed: wrong value (expected a list, got 3)");
  refuse("{plan.expert: [3]}", "e.yaml:4:22: unknown key plan.expert");
  refuse("{plan.experts: [4, 0]}", "plan.experts: wrong value (expected a whole number in 1..1024, got 0)");
  refuse("{plan.experts: [3, 2]}",
         "e.yaml:3:17: plan.experts: beside a sweep that does not have it (expected one of 3, 2, got 4)");
  refuse("{seed: [[1]]}", "expected a single value");
  refuse("{name: [\"a=b\"]}", "a swept value names a directory");
  refuse("{sweep.seed: [1]}", "a sweep cannot be swept");
  refuse("{model.path: [a/b, a_b]}", "two values give one directory");
  refuse("{model.path: [a, ./a]}", "sweep.model.path[1]: the same path twice (a and ./a)");
  refuse("{model.path: [a/b, ./a/./c/../b/]}", "the same path twice (a/b and ./a/./c/../b/)");
  refuse("{model.path: [a, " + scratch.path("a") + "]}", "the same path twice (a and ");
  refuse("{name: [" + std::string(300, 'n') + "]}", "a directory's name is too long");
  std::string values;
  for (int i = 0; i < 150; ++i) values += (i == 0 ? "" : ", ") + std::to_string(i + 1);
  refuse("{seed: [" + values + "], search.population: [" + values + "]}", "too many combinations");
}

TEST_CASE("experiment: the shipped schema is current") {
  CHECK(read_file(std::string(EEP_SOURCE_DIR) + "/share/experiment.schema.json") == experiment_schema());
  CHECK(parse_json(experiment_schema(), "schema").at("properties").contains("search"));
}
