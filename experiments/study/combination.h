// One combination of an experiment: baselines, prune phase, merge phase, final evaluation; everything a run
// directory holds.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "es/criteria.h"
#include "es/pareto.h"
#include "es/search.h"
#include "experiments/study/evaluation_journal.h"
#include "experiments/study/experiment.h"
#include "experiments/study/methods.h"
#include "experiments/study/run_hooks.h"
#include "experiments/study/skipping.h"
#include "experiments/study/task_context.h"
#include "experiments/study/task_mix.h"

namespace eep {

class CombinationRun {
 public:
  // Throws Error(kConfig) where the experiment does not fit the model. directory: exists. subset_kept: kept
  // counts for which calibration measures subset errors (all of a sweep, so that it is shared).
  CombinationRun(ModelContext& model, TaskContext& task, const Experiment& experiment, std::string directory,
                 std::vector<int32_t> subset_kept, const RunHooks& hooks);

  // The content of result.json, which is written when the scores are there, before the export. Goes on from a
  // checkpoint if the directory holds one, and within an evaluation from its journal. Throws Interrupted.
  Json run();

  // Of a run whose result is there: the export, if it is asked for and missing.
  void finish_export();

  // The number of evaluations and tokens that run() will need, for --dry-run.
  int64_t planned_evaluations() const;

 private:
  struct Method {
    MethodResult result;
    ExpertPlan plan;
    std::vector<ExpertPlan> draws;  // random
  };

  GenomeSpace genome_space() const;
  bool prunes() const { return !genome_space().keeps_all(); }
  std::vector<WarmStart> warm_starts(const GenomeSpace& space) const;
  SearchConfig search_config() const;
  void make_baselines();
  Method& add_method(const std::string& name, ExpertPlan plan);
  const ExpertStatistics& statistics(double* seconds);  // of the task, with those that baselines need
  void add_skipping(const SkippingRow& row);
  // What a baseline's choice does not rest on; what another's did not either is not said again.
  void warn_of_no_signal(const ExpertStatistics& statistics, const Criterion& criterion,
                         const ExpertPlan& plan);
  void say_redundancy(const ExpertStatistics& statistics);
  struct Searched;  // a finished search and what it took
  void search();
  AnswerProgress generation_progress(const Search& search, const int64_t& asked,
                                     const std::string& best) const;
  std::vector<Evaluation> evaluate(const EvaluationRequest& request, const GenomeSpace& space,
                                   FitnessKind kind, const Archive* known);
  Searched run_search(const SearchConfig& config, const std::string& folder, const Archive* known);
  int64_t chosen(const std::string& method, const Search& search, bool prune_only, int64_t pruned);
  void add_searched(const std::string& name, const Search& search, int64_t evaluation, int64_t evaluations,
                    double seconds);
  void export_model(const ExpertPlan& plan);
  // One plan a size that the search found nothing better for, as methods pareto_<kept>; and what result.json
  // says of them.
  void add_front(const Search& search, double seconds);
  std::vector<int64_t> front_on_dev(const Search& search);
  std::string front_name(const GenomeSize& size) const;
  Json front_json() const;
  static void make_directory(const std::string& path);
  int64_t choose(const std::string& method, const Search& search, const std::vector<int64_t>& leaders);
  // Larger is better on the dev split.
  using DevKey = std::tuple<double, double, double>;
  DevKey dev_key(const MixedScore& score) const;
  void final_scores();
  void check_scores(const SplitResult& full) const;
  // From now on evaluations are told of under that name.
  void tell_answers_as(const std::string& what);
  void write_samples(const std::string& name, const SplitResult& result);
  void write_plan_file(const std::string& file, const ExpertPlan& plan, const std::string& method);
  std::string path(const std::string& file) const { return directory_ + "/" + file; }

  ModelContext& model_;
  TaskContext& task_;
  TaskMix mix_;
  const Experiment& experiment_;
  std::string directory_;
  std::vector<int32_t> subset_kept_;
  const RunHooks& hooks_;
  std::vector<int32_t> kept_;  // [groups] where counts vary, the even ones
  int32_t top_k_ = 0;
  ExpertPlan start_;  // of search.start, or without groups
  RouterSpace space_ = RouterSpace::kLogits;
  std::vector<std::vector<int32_t>> groups_;
  std::vector<Method> methods_;
  Json search_json_;
  std::unique_ptr<EvaluationJournal> journal_;  // while run() works
  std::string finalists_;                       // lines of finalists.jsonl
  std::set<std::string> said_;                  // lines that are not said twice
};

}  // namespace eep
