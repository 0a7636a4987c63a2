// The search of one combination: warm starts, generations with checkpoints, resume, and the two searched
// methods.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "es/search.h"
#include "experiments/combination.h"
#include "loaders/file.h"

namespace eep {
namespace {

constexpr const char* kStateFile = "checkpoints/search.state";
constexpr const char* kTimesFile = "checkpoints/search.json";

// Seconds and work of the generations so far, which a resume adds to.
struct Spent {
  double prune = 0, merge = 0;
  int64_t computed = 0, asked = 0;

  Json json() const {
    return {{"prune_seconds", prune},
            {"merge_seconds", merge},
            {"tokens", computed},
            {"tokens_without_sharing", asked}};
  }
  static Spent read(const std::string& file) {
    const Json json = parse_json(read_file(file), file);
    return {json.value("prune_seconds", 0.0), json.value("merge_seconds", 0.0),
            json.value("tokens", int64_t{0}), json.value("tokens_without_sharing", int64_t{0})};
  }
};

void append_line(const std::string& file, const std::string& text) {
  std::ofstream stream(file, std::ios::app | std::ios::binary);
  stream << text;
  stream.flush();
  if (!stream) throw Error(ExitCode::kIo, file, "cannot write");
}

// What each item decided by: the tokens of its right answer, or its choices.
Decisions decisions_of(const SplitResult& result) {
  Decisions decisions;
  for (const ItemScore& item : result.items) {
    decisions.values.insert(decisions.values.end(), item.log_probabilities.begin(),
                            item.log_probabilities.end());
    decisions.item_end.push_back(static_cast<int32_t>(decisions.values.size()));
    decisions.right.push_back(item.right);
  }
  return decisions;
}

// Metrics are written before the checkpoint that they describe; a run that was killed between the two, or
// within a line, left lines that are to be made again. One whole line a generation remains.
void keep_metrics(const std::string& file, int64_t evaluations) {
  if (!file_exists(file)) return;
  const std::string text = read_file(file);
  size_t end = 0;
  for (int64_t number = 1;; ++number) {
    const size_t next = text.find('\n', end);
    if (next == std::string::npos) break;
    const Json line = parse_json(std::string_view(text).substr(end, next - end), file, number);
    const auto done = line.is_object() ? line.find("evaluations") : line.end();
    if (done == line.end() || !done->is_number_integer() || done->get<int64_t>() > evaluations) break;
    end = next + 1;
  }
  if (end != text.size()) write_file_atomic(file, std::string_view(text).substr(0, end));
}

}  // namespace

void CombinationRun::search() {
  const FitnessKind kind = experiment_.search.fitness;
  const GenomeSpace space = genome_space();
  std::vector<WarmStart> starts;
  if (experiment_.warm_start) {
    for (const Method& method : methods_) {
      if (method.result.name.starts_with("full") || !method.draws.empty()) continue;
      starts.push_back({method.result.name, from_plan(space, method.plan, method.result.name.c_str())});
    }
  }

  Spent spent;
  std::unique_ptr<Search> search;
  if (file_exists(path(kStateFile))) {
    search =
        std::make_unique<Search>(space, search_config(), starts, read_file(path(kStateFile)), kStateFile);
    if (file_exists(path(kTimesFile))) spent = Spent::read(path(kTimesFile));
    hooks_.say(fmt::format("resuming at evaluation {} of {}", search->archive().size(),
                           search->total_evaluations()));
  } else {
    search = std::make_unique<Search>(space, search_config(), starts);
  }
  // The archive file is a view of the checkpoint: whatever a killed run left behind it is replaced.
  std::string lines;
  for (const ArchiveEntry& entry : search->archive().entries()) lines += archive_line(entry, kind) + "\n";
  write_file_atomic(path("archive.jsonl"), lines);
  keep_metrics(path("metrics.jsonl"), search->archive().size());

  SplitEvaluator& fixed = task_.evaluator(Split::kTrain);
  SplitEvaluator& fresh = task_.fresh_evaluator();
  const auto work = [&] {
    WorkCounts counts = fixed.work();
    if (&fresh != &fixed) counts += fresh.work();
    return counts;
  };
  const WorkCounts before = work();
  const Spent spent_before = spent;
  auto clock = std::chrono::steady_clock::now();
  const EvaluateItems evaluate = [&](const EvaluationRequest& request) {
    std::vector<ExpertPlan> plans;
    for (const Genome& genome : request.genomes) plans.push_back(to_plan(space, genome));
    const std::vector<SplitResult> results =
        request.items.empty() ? fixed.evaluate(plans) : fresh.evaluate(plans, request.items);
    std::vector<Evaluation> evaluations;
    for (const SplitResult& result : results) {
      evaluations.push_back({kind == FitnessKind::kLoglik ? result.loglik : result.score, result.loglik,
                             result.n, request.decisions ? decisions_of(result) : Decisions{}});
    }
    return evaluations;
  };
  const auto on_generation = [&](const SearchProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - clock).count();
    clock = now;
    (progress.phase == Phase::kPrune ? spent.prune : spent.merge) += seconds;
    const WorkCounts done = work();
    spent.computed = spent_before.computed + done.tokens_computed - before.tokens_computed;
    spent.asked = spent_before.asked + done.tokens_asked - before.tokens_asked;
    const ArchiveEntry& best = search->archive()[progress.best];
    const Json metrics{{"phase", to_string(progress.phase)},
                       {"generation", progress.generation},
                       {"evaluations", progress.end},
                       {"evaluated", progress.evaluated},
                       {"best", best.result.fitness},
                       {"best_tiebreak", best.result.tiebreak},
                       {"generation_best", search->archive()[progress.generation_best].result.fitness},
                       {"wall_s", spent.prune + spent.merge}};
    append_line(path("metrics.jsonl"), metrics.dump() + "\n");
    write_file_atomic(path(kTimesFile), spent.json().dump() + "\n");
    write_file_atomic(path(kStateFile), search->state());
    std::string fresh;
    for (int64_t i = progress.first; i < progress.end; ++i)
      fresh += archive_line(search->archive()[i], kind) + "\n";
    append_line(path("archive.jsonl"), fresh);
    hooks_.progress(
        to_string(progress.phase), progress.end, progress.total,
        fmt::format("best {:.4g} (log-likelihood {:.3f})", best.result.fitness, best.result.tiebreak));
  };
  const SearchResult result = search->run(evaluate, on_generation, hooks_.stop);
  if (!result.finished) throw Interrupted{};

  const auto plan_of = [&](int64_t evaluation) { return search->plan(evaluation); };
  int64_t pruned = -1;  // the choice of the prune phase
  const auto chosen = [&](bool prune_only) {
    std::vector<int64_t> leaders = search->leaders(experiment_.dev_count, prune_only);
    // The merge phase may fill the list with plans that fit the train split alone.
    if (pruned >= 0 && std::find(leaders.begin(), leaders.end(), pruned) == leaders.end())
      leaders.push_back(pruned);
    return choose(leaders, plan_of);
  };
  const auto add = [&](const char* name, const char* file, int64_t evaluation, int64_t evaluations,
                       double seconds) {
    Method method;
    method.result.name = name;
    method.result.experts = kept_;
    method.result.top_k = std::min(top_k_, kept_);
    method.result.evaluations = evaluations;
    method.result.seconds = seconds;
    method.result.plan = std::string("plans/") + name + ".json";
    method.plan = search->plan(evaluation);
    write_plan_file(method.result.plan, method.plan, name);
    write_plan_file(file, method.plan, name);
    methods_.push_back(std::move(method));
  };
  hooks_.say("choosing on the dev split");
  if (search->prune_end() > 0) {
    pruned = chosen(true);
    add("eep_prune", "plan.prune.json", pruned, search->prune_end(), spent.prune);
  }
  if (search->archive().size() > search->prune_end()) {
    add("eep_merge", "plan.json", chosen(false), search->archive().size(), spent.prune + spent.merge);
  } else {
    write_plan_file("plan.json", methods_.back().plan, "eep_prune");
  }
  const double seconds = spent.prune + spent.merge;
  search_json_ = {
      {"evaluations", result.evaluations},
      {"unique", result.unique},
      {"seconds", seconds},
      {"candidates_per_second", seconds > 0 ? static_cast<double>(result.evaluations) / seconds : 0.0},
      {"tokens", spent.computed},
      {"tokens_without_sharing", spent.asked}};
}

}  // namespace eep
