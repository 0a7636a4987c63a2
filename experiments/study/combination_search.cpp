// The search of one combination: warm starts, generations with checkpoints, resume, and the two searched
// methods.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "es/pareto.h"
#include "es/search.h"
#include "es/search_state.h"
#include "experiments/study/combination.h"
#include "kernels/common/interrupt.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr const char* kStateFile = "checkpoints/search.state";
constexpr size_t kMostStateBytes = size_t{1} << 40;
constexpr const char* kTimesFile = "checkpoints/search.json";

// Seconds and work of the generations so far, which a resume adds to.
struct Spent {
  double prune = 0, merge = 0;
  int64_t computed = 0, asked = 0;
  int64_t steps = 0, drafted = 0, accepted = 0;  // of decoding

  Json json() const {
    return {{"prune_seconds", prune}, {"merge_seconds", merge},
            {"tokens", computed},     {"tokens_without_sharing", asked},
            {"decode_steps", steps},  {"drafted", drafted},
            {"accepted", accepted}};
  }
  static Spent read(const std::string& file) {
    const Json json = parse_json(read_file(file), file);
    const auto count = [&](const char* name) { return json.value(name, int64_t{0}); };
    return {json.value("prune_seconds", 0.0),
            json.value("merge_seconds", 0.0),
            count("tokens"),
            count("tokens_without_sharing"),
            count("decode_steps"),
            count("drafted"),
            count("accepted")};
  }
};

Decisions decisions_of(const SplitResult& result) {
  Decisions decisions;
  add_decisions(result, &decisions);
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

// What a control's search is told: the same budget, spent in another way.
SearchConfig control_config(const std::string& control, SearchConfig config) {
  if (control == "prune_only") {
    config.prune.evaluations += config.merge.evaluations;
    config.merge.evaluations = 0;
  } else if (control == "random") {
    config.prune.algorithm = config.merge.algorithm = "random";
  } else {
    config.merge.algorithm = control;
  }
  return config;
}

}  // namespace

// The one-shot plans, then the given one: a merged one is what algorithms that move coefficients start at.
std::vector<WarmStart> CombinationRun::warm_starts(const GenomeSpace& space) const {
  std::vector<WarmStart> starts;
  if (experiment_.warm_start) {
    for (const Method& method : methods_) {
      if (method.result.name.starts_with("full") || !method.draws.empty() || skips_experts(method.plan))
        continue;
      starts.push_back({method.result.name, from_plan(space, method.plan, method.result.name.c_str())});
    }
  }
  if (!start_.groups.empty())
    starts.push_back({"start", from_plan(space, start_, experiment_.start.c_str())});
  return starts;
}

struct CombinationRun::Searched {
  std::unique_ptr<Search> search;
  Spent spent;
};

// folder: of its files, "" or ending in /. known: an earlier search's archive, whose evaluations on the fixed
// items are not made again; or null.
CombinationRun::Searched CombinationRun::run_search(const SearchConfig& config, const std::string& folder,
                                                    const Archive* known) {
  const FitnessKind kind = config.fitness;
  const GenomeSpace space = genome_space();
  const std::vector<WarmStart> starts = warm_starts(space);

  const std::string state_file = path(folder + kStateFile), times_file = path(folder + kTimesFile);
  const std::string archive_file = path(folder + "archive.jsonl"),
                    metrics_file = path(folder + "metrics.jsonl");
  Searched run;
  Spent& spent = run.spent;
  std::unique_ptr<Search>& search = run.search;
  if (file_exists(state_file)) {
    // A killed run may have left a part of its last generation; an older program, another version.
    const std::string bytes = read_file(state_file, kMostStateBytes);
    search = std::make_unique<Search>(space, config, starts, whole_generations(bytes), kStateFile);
    write_file_atomic(state_file, search->state());
    if (file_exists(times_file)) spent = Spent::read(times_file);
    hooks_.say(fmt::format("resuming at evaluation {} of {}", search->archive().size(),
                           search->total_evaluations()));
  } else {
    search = std::make_unique<Search>(space, config, starts);
  }
  // The archive file is a view of the checkpoint: whatever a killed run left behind it is replaced.
  std::string lines;
  for (const ArchiveEntry& entry : search->archive().entries()) lines += archive_line(entry, kind) + "\n";
  write_file_atomic(archive_file, lines);
  if (!file_exists(metrics_file))
    write_file_atomic(metrics_file, "");  // append_file adds to one that is there
  keep_metrics(metrics_file, search->archive().size());

  const auto work = [&] {
    WorkCounts counts = task_.search_work();
    counts += mix_.further_work();
    return counts;
  };
  const WorkCounts before = work();
  const Spent spent_before = spent;
  auto clock = std::chrono::steady_clock::now();
  const EvaluateItems evaluate = [&](const EvaluationRequest& request) {
    std::vector<Evaluation> evaluations(request.genomes.size());
    std::vector<ExpertPlan> plans;
    std::vector<size_t> places;
    for (size_t i = 0; i < request.genomes.size(); ++i) {
      if (known != nullptr && request.items.empty() && !request.decisions) {
        const int64_t at = known->find(canonical_hash(request.genomes[i], space.experts));
        if (at >= 0) {
          evaluations[i] = (*known)[at].result;
          evaluations[i].decisions = {};
          continue;
        }
      }
      plans.push_back(to_plan(space, request.genomes[i]));
      places.push_back(i);
    }
    if (plans.empty()) return evaluations;
    if (mix_.several()) {
      const std::vector<Evaluation> mixed = mix_.evaluations(plans, kind, request.decisions);
      for (size_t i = 0; i < mixed.size(); ++i) evaluations[places[i]] = mixed[i];
      return evaluations;
    }
    const std::vector<SplitResult> results =
        task_.score(request.items.empty() ? Split::kTrain : Split::kFresh, plans, request.items);
    for (size_t i = 0; i < results.size(); ++i) {
      const SplitResult& result = results[i];
      evaluations[places[i]] = {kind == FitnessKind::kLoglik ? result.loglik : result.score, result.loglik,
                                result.n, request.decisions ? decisions_of(result) : Decisions{}};
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
    spent.steps = spent_before.steps + done.decode_steps - before.decode_steps;
    spent.drafted = spent_before.drafted + done.drafted - before.drafted;
    spent.accepted = spent_before.accepted + done.accepted - before.accepted;
    const ArchiveEntry& best = search->archive()[progress.best];
    const Json metrics{{"phase", to_string(progress.phase)},
                       {"generation", progress.generation},
                       {"evaluations", progress.end},
                       {"evaluated", progress.evaluated},
                       {"best", best.result.fitness},
                       {"best_tiebreak", best.result.tiebreak},
                       {"generation_best", search->archive()[progress.generation_best].result.fitness},
                       {"wall_s", spent.prune + spent.merge}};
    append_file(metrics_file, metrics.dump() + "\n");
    write_file_atomic(times_file, spent.json().dump() + "\n");
    if (progress.first == 0) {
      write_file_atomic(state_file, search->state());
    } else {
      append_file(state_file, search->state_of(progress.first, progress.end));
    }
    journal_->clear();  // the state has these evaluations
    std::string fresh_lines;
    for (int64_t i = progress.first; i < progress.end; ++i)
      fresh_lines += archive_line(search->archive()[i], kind) + "\n";
    append_file(archive_file, fresh_lines);
    hooks_.progress(
        to_string(progress.phase), progress.end, progress.total,
        fmt::format("best {:.4g} (log-likelihood {:.3f})", best.result.fitness, best.result.tiebreak));
  };
  const SearchResult result = search->run(evaluate, on_generation, &interrupt_flag());
  if (!result.finished) throw Interrupted{};
  return run;
}

// The dev split's choice: of the prune phase alone, or of everything, in which case the pruned plan stands
// for choice too: the merge phase may fill the list with plans that fit the train split alone.
int64_t CombinationRun::chosen(const std::string& method, const Search& search, bool prune_only,
                               int64_t pruned) {
  std::vector<int64_t> leaders = search.leaders(experiment_.dev_count, prune_only);
  if (pruned >= 0 && std::find(leaders.begin(), leaders.end(), pruned) == leaders.end())
    leaders.push_back(pruned);
  return choose(method, search, leaders);
}

void CombinationRun::add_searched(const std::string& name, const Search& search, int64_t evaluation,
                                  int64_t evaluations, double seconds) {
  Method method;
  method.result.name = name;
  method.result.evaluations = evaluations;
  method.result.seconds = seconds;
  method.result.plan = "plans/" + name + ".json";
  method.plan = search.plan(evaluation);
  write_plan_file(method.result.plan, method.plan, name);
  methods_.push_back(std::move(method));
}

void CombinationRun::add_front(const Search& search, double seconds) {
  const Objectives objectives = experiment_.search.objectives;
  for (const int64_t evaluation : pareto_front(search.archive(), search.space(), objectives)) {
    const GenomeSize size = genome_size(search.space(), search.archive()[evaluation].genome);
    const std::string active = objectives.active ? fmt::format("_{}", size.active) : "";
    add_searched(fmt::format("pareto_{}{}", size.kept, active), search, evaluation, search.archive().size(),
                 seconds);
  }
}

Json CombinationRun::front_json() const {
  Json front = Json::array();
  for (const Method& method : methods_) {
    if (!method.result.name.starts_with("pareto_")) continue;
    int64_t kept = 0;
    for (const PlanGroup& group : method.plan.groups)
      kept += group.kept * static_cast<int64_t>(group.layers.size());
    const ParameterCounts counts = plan_parameters(model_.config(), method.plan);
    front.push_back({{"method", method.result.name},
                     {"plan", method.result.plan},
                     {"experts_total", kept},
                     {"top_k", method.plan.top_k},
                     {"parameters", counts.total},
                     {"active_parameters", counts.active},
                     {"train", method.result.train->score},
                     {"test", method.result.test->score}});
  }
  return front;
}

void CombinationRun::search() {
  const Searched main = run_search(search_config(), "", nullptr);
  const Search& search = *main.search;
  const Spent& spent = main.spent;
  std::vector<std::pair<std::string, Searched>> controls;
  for (const std::string& control : experiment_.controls) {
    // All experts stay: nothing to prune.
    if (control == "prune_only" && !prunes()) continue;
    hooks_.say("control " + control);
    const std::string folder = "controls/" + control + "/";
    make_directory(path(folder + "checkpoints"));
    controls.emplace_back(control,
                          run_search(control_config(control, search_config()), folder, &search.archive()));
  }

  hooks_.say("choosing on the dev split");
  for (const auto& [control, run] : controls) {
    const std::string name = "control_" + control;
    const int64_t own = run.search->prune_end() > 0 ? chosen(name, *run.search, true, -1) : -1;
    add_searched(name, *run.search, chosen(name, *run.search, false, own), run.search->archive().size(),
                 run.spent.prune + run.spent.merge);
  }
  if (experiment_.search.objectives.several()) add_front(search, spent.prune + spent.merge);
  // The last method is the plan of plan.json.
  int64_t pruned = -1;
  if (search.prune_end() > 0) {
    pruned = chosen("eep_prune", search, true, -1);
    add_searched("eep_prune", search, pruned, search.prune_end(), spent.prune);
    write_plan_file("plan.prune.json", methods_.back().plan, "eep_prune");
  }
  if (search.archive().size() > search.prune_end()) {
    add_searched("eep_merge", search, chosen("eep_merge", search, false, pruned), search.archive().size(),
                 spent.prune + spent.merge);
  }
  write_file_atomic(path("finalists.jsonl"), finalists_);
  write_plan_file("plan.json", methods_.back().plan, methods_.back().result.name);
  const SearchResult result = search.result();
  const double seconds = spent.prune + spent.merge;
  search_json_ = {
      {"evaluations", result.evaluations},
      {"unique", result.unique},
      {"algorithm", experiment_.search.merge.algorithm},
      {"seconds", seconds},
      {"candidates_per_second", seconds > 0 ? static_cast<double>(result.evaluations) / seconds : 0.0},
      {"tokens", spent.computed},
      {"tokens_without_sharing", spent.asked},
      // Steps of decoding; tokens that drafts proposed, and the right ones: steps of a sequence not taken.
      {"work", {{"decode_steps", spent.steps}, {"drafted", spent.drafted}, {"accepted", spent.accepted}}}};
}

}  // namespace eep
