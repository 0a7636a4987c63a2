// A run directory as a report reads it: what is there, with its types checked, and notes on what is not.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/expert_statistics.h"
#include "loaders/formats/json.h"
#include "loaders/tasks/statistics.h"

namespace eep {

// A line of archive.jsonl.
struct EvaluationLine {
  int64_t evaluation = 0;
  std::string phase;
  int64_t generation = 0;
  std::string origin;
  std::optional<double> fitness, tiebreak;  // none: not finite
  bool cached = false;
  bool fresh = false;  // on items of a shard, or dropped by racing: does not compare with the others
};

// A line of metrics.jsonl.
struct GenerationLine {
  std::string phase;
  int64_t generation = 0, evaluations = 0, evaluated = 0;
  std::optional<double> best;
  double wall_s = 0;
};

struct SampleLine {
  int64_t item = 0;
  std::string prompt, target, given;  // given: the choice or the output
  double score = 0;
  bool generated = false;  // given is a text of the model's own
};

struct SplitNumbers {
  double score = 0;
  int64_t n = 0;
  std::optional<Interval> interval;
  std::optional<double> p_vs_full, p_vs_prune, best;
  std::optional<double> recovery;  // score over the full model's
  std::optional<Interval> recovery_interval;
};

struct MethodNumbers {
  std::string name;
  int64_t experts = 0, top_k = 0, parameters = 0, bytes = 0, evaluations = 0;
  double seconds = 0;
  std::optional<SplitNumbers> train, dev, test;
  std::optional<ExpertPlan> plan;
  std::vector<SampleLine> samples;
};

struct ExportCheck {
  std::string name, detail;
  bool passed = false;
};

// A model's continuations of probe prompts: probe.json, as eep generate --probe --json prints it.
struct ProbeLine {
  std::string model;
  int64_t prompts = 0, loops = 0;
  std::optional<double> distinct4;  // mean over the prompts; none: all too short
};

// A candidate that stood for choice on the dev split.
struct FinalistLine {
  std::string method;
  int64_t evaluation = 0;
  double train = 0, dev = 0;
  bool chosen = false;
};

struct RunRecord {
  std::string path;
  std::string label;    // what tells it from the others of a page
  std::string setting;  // the same without the seed, the task and the budget of experts
  std::string name, task, protocol, metric, device, weights, algorithm;
  std::string seed;
  bool fitness_is_loglik = false;  // of the archive; else a score
  Json manifest;                   // an object, empty where there is none
  Json result;                     // result.json as tables read it (study/run_report.h), or null
  Json search;                     // of result.json, an object
  bool finished = false;           // result.json is there
  int64_t planned = 0;             // evaluations, 0: unknown
  std::vector<MethodNumbers> methods;
  std::vector<EvaluationLine> archive;
  std::vector<std::pair<std::string, std::vector<EvaluationLine>>> controls;
  std::vector<GenerationLine> generations;
  std::vector<FinalistLine> finalists;
  std::optional<ExpertStatistics> statistics;
  std::vector<ExportCheck> checks;
  std::vector<ProbeLine> probes;
  std::vector<std::string> notes;     // of missing parts, a sentence each
  std::vector<std::string> warnings;  // those of the notes that are of files a whole run of this version has

  // A text of the manifest, in a section of it ("model", "data") or not (""); "" where it has none.
  std::string fact(const std::string& section, const std::string& key) const;
  const MethodNumbers* method(const std::string& name) const;
  const MethodNumbers* full() const { return method("full"); }
  // The plan of plan.json: the last of the methods. Null without results.
  const MethodNumbers* final_method() const { return methods.empty() ? nullptr : &methods.back(); }
};

// The runs of a directory: itself, or each combination of a sweep, in the sweep's order. Combinations that
// have not begun are a note of the first. Throws Error: kNoInput where nothing of a run is there, kData or
// kConfig where a file is damaged, with its place.
std::vector<RunRecord> read_run_records(const std::string& directory);

}  // namespace eep
