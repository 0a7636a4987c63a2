// The search of one combination: warm starts, evaluations, controls, the choice on dev, and the searched
// methods.
#include <fmt/format.h>

#include <algorithm>

#include "es/pareto.h"
#include "es/search.h"
#include "experiments/study/combination.h"
#include "experiments/study/search_files.h"
#include "kernels/common/interrupt.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

Decisions decisions_of(const SplitResult& result) {
  Decisions decisions;
  add_decisions(result, &decisions);
  return decisions;
}

std::vector<ItemValue> values_of(const SplitResult& result) {
  std::vector<ItemValue> values;
  for (const ItemScore& item : result.items) values.push_back({item.metric, item.right_loglik});
  return values;
}

// Items that the evaluations saw, and that they would have seen without racing; those on fresh items, and
// those that the archive answered, left out.
Json raced_items(const Archive& archive) {
  int64_t seen = 0, without = 0, dropped = 0;
  for (const ArchiveEntry& entry : archive.entries()) {
    if (entry.shard >= 0 || entry.cached) continue;
    seen += entry.result.n;
    without += archive[0].result.n;
    dropped += entry.dropped ? 1 : 0;
  }
  return {{"items", seen}, {"items_without_racing", without}, {"dropped", dropped}};
}

// What a control's search is told: the same budget, spent in another way, and every candidate on all items.
SearchConfig control_config(const std::string& control, SearchConfig config) {
  config.racing.on = false;
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
  SearchSpent spent;
};

// How far the generation under way is, told as evaluations of the search. Tasks are scored one after the
// other.
AnswerProgress CombinationRun::generation_progress(const Search& search, const int64_t& asked,
                                                   const std::string& best) const {
  int64_t tasks = 1;
  for (const TaskContext::Further& other : task_.further()) tasks += other.context->final_only() ? 0 : 1;
  return [this, &search, &asked, &best, tasks, task = int64_t{0}, last = int64_t{0}, known = int64_t{-1}](
             bool decoding, int64_t done, int64_t total) mutable {
    if (decoding) return;
    const int64_t evaluated = search.archive().size();
    if (evaluated != known) task = last = 0;
    task += done < last && task + 1 < tasks ? 1 : 0;
    known = evaluated;
    last = done;
    const double share =
        (static_cast<double>(task) + static_cast<double>(done) / static_cast<double>(total)) /
        static_cast<double>(tasks);
    if (share >= 1) return;  // the generation's end has its own line
    hooks_.progress(to_string(search.phase()),
                    evaluated + static_cast<int64_t>(share * static_cast<double>(asked)),
                    search.total_evaluations(), best);
  };
}

// One result a genome. known: see run_search.
std::vector<Evaluation> CombinationRun::evaluate(const EvaluationRequest& request, const GenomeSpace& space,
                                                 FitnessKind kind, const Archive* known) {
  std::vector<Evaluation> evaluations(request.genomes.size());
  std::vector<ExpertPlan> plans;
  std::vector<size_t> places;
  for (size_t i = 0; i < request.genomes.size(); ++i) {
    if (known != nullptr && request.items.empty() && !request.decisions && !request.values) {
      const int64_t at = known->find(canonical_hash(request.genomes[i], space.experts));
      if (at >= 0 && !(*known)[at].dropped) {
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
  const bool fixed = request.fixed || request.items.empty();
  const std::vector<SplitResult> results =
      task_.score(fixed ? Split::kTrain : Split::kFresh, plans, request.items);
  for (size_t i = 0; i < results.size(); ++i) {
    const SplitResult& result = results[i];
    evaluations[places[i]] = {kind == FitnessKind::kLoglik ? result.loglik : result.score, result.loglik,
                              result.n, request.decisions ? decisions_of(result) : Decisions{},
                              request.values ? values_of(result) : std::vector<ItemValue>{}};
  }
  return evaluations;
}

// folder: of its files, "" or ending in /. known: an earlier search's archive, whose evaluations on the fixed
// items are not made again; or null.
CombinationRun::Searched CombinationRun::run_search(const SearchConfig& config, const std::string& folder,
                                                    const Archive* known) {
  const GenomeSpace space = genome_space();
  SearchFiles files(path(folder), config.fitness);
  bool resumed = false;
  std::unique_ptr<Search> search = files.open(space, config, warm_starts(space), &resumed);
  if (resumed) {
    hooks_.say(fmt::format("resuming at evaluation {} of {}", search->archive().size(),
                           search->total_evaluations()));
  }
  const auto work = [&] {
    WorkCounts counts = task_.search_work();
    counts += mix_.further_work();
    return counts;
  };
  files.start_clock(work());
  int64_t asked = 0;  // evaluations of the generation under way
  std::string best_text = "first generation";
  const EvaluateItems ask = [&](const EvaluationRequest& request) {
    asked = static_cast<int64_t>(request.genomes.size());
    return evaluate(request, space, config.fitness, known);
  };
  const auto on_generation = [&](const SearchProgress& progress) {
    files.add(*search, progress, work());
    journal_->clear();  // the checkpoint has these evaluations
    const Evaluation& best = search->archive()[progress.best].result;
    best_text = fmt::format("best {:.4g} (log-likelihood {:.3f})", best.fitness, best.tiebreak);
    hooks_.progress(to_string(progress.phase), progress.end, progress.total, best_text);
  };
  task_.set_progress(generation_progress(*search, asked, best_text));
  const SearchResult result = search->run(ask, on_generation, &interrupt_flag());
  task_.set_progress({});
  if (!result.finished) throw Interrupted{};
  return {std::move(search), files.spent()};
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

std::string CombinationRun::front_name(const GenomeSize& size) const {
  return fmt::format("pareto_{}{}", size.kept,
                     experiment_.search.objectives.active ? fmt::format("_{}", size.active) : "");
}

// Of each size the dev split chooses among the best; sizes that a smaller or equal one beats there are left
// out. dev_count plans or two of each size are scored.
std::vector<int64_t> CombinationRun::front_on_dev(const Search& search) {
  const Objectives objectives = experiment_.search.objectives;
  std::vector<std::vector<int64_t>> sizes = best_of_sizes(search.archive(), search.space(), objectives,
                                                          std::max<int64_t>(2, experiment_.dev_count));
  const auto each =
      static_cast<size_t>(std::max<int64_t>(2, experiment_.dev_count / static_cast<int64_t>(sizes.size())));
  std::vector<ExpertPlan> plans;
  for (std::vector<int64_t>& best : sizes) {
    best.resize(std::min(best.size(), each));
    for (const int64_t evaluation : best) plans.push_back(search.plan(evaluation));
  }
  mix_.scores(Split::kDev, plans);  // in one pass; what follows is answered from it
  struct Point {
    int64_t evaluation = 0;
    GenomeSize size;
    DevKey key;
  };
  std::vector<Point> points;
  for (const std::vector<int64_t>& best : sizes) {
    GenomeSize size = genome_size(search.space(), search.archive()[best[0]].genome);
    const std::string name = front_name(size);
    if (!objectives.parameters) size.kept = 0;
    if (!objectives.active) size.active = 0;
    const int64_t evaluation = choose(name, search, best);
    const ExpertPlan plan = search.plan(evaluation);
    points.push_back({evaluation, size, dev_key(mix_.scores(Split::kDev, std::span(&plan, 1))[0])});
  }
  std::vector<int64_t> front;
  for (const Point& point : points) {
    const auto beats = [&](const Point& other) {  // sizes differ: one that is no larger is smaller somewhere
      return &other != &point && other.size.kept <= point.size.kept &&
             other.size.active <= point.size.active && other.key >= point.key;
    };
    if (std::none_of(points.begin(), points.end(), beats)) front.push_back(point.evaluation);
  }
  return front;
}

void CombinationRun::add_front(const Search& search, double seconds) {
  const Objectives objectives = experiment_.search.objectives;
  const std::vector<int64_t> front =
      task_.has_dev() ? front_on_dev(search) : pareto_front(search.archive(), search.space(), objectives);
  for (const int64_t evaluation : front) {
    const GenomeSize size = genome_size(search.space(), search.archive()[evaluation].genome);
    add_searched(front_name(size), search, evaluation, search.archive().size(), seconds);
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
                     {"dev", method.result.dev ? Json(method.result.dev->score) : Json()},
                     {"test", method.result.test->score}});
  }
  return front;
}

void CombinationRun::search() {
  const Searched main = run_search(search_config(), "", nullptr);
  const Search& search = *main.search;
  const SearchSpent& spent = main.spent;
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
  tell_answers_as("choosing on the dev split");
  for (const auto& [control, run] : controls) {
    const std::string name = "control_" + control;
    const int64_t own = run.search->prune_end() > 0 ? chosen(name, *run.search, true, -1) : -1;
    add_searched(name, *run.search, chosen(name, *run.search, false, own), run.search->archive().size(),
                 run.spent.seconds());
  }
  if (experiment_.search.objectives.several()) add_front(search, spent.seconds());
  // The last method is the plan of plan.json.
  int64_t pruned = -1;
  if (search.prune_end() > 0) {
    pruned = chosen("eep_prune", search, true, -1);
    add_searched("eep_prune", search, pruned, search.prune_end(), spent.prune);
    write_plan_file("plan.prune.json", methods_.back().plan, "eep_prune");
  }
  if (search.archive().size() > search.prune_end()) {
    add_searched("eep_merge", search, chosen("eep_merge", search, false, pruned), search.archive().size(),
                 spent.seconds());
  }
  write_file_atomic(path("finalists.jsonl"), finalists_);
  write_plan_file("plan.json", methods_.back().plan, methods_.back().result.name);
  const SearchResult result = search.result();
  const double seconds = spent.seconds();
  search_json_ = {
      {"evaluations", result.evaluations},
      {"unique", result.unique},
      {"algorithm", experiment_.search.merge.algorithm},
      {"seconds", seconds},
      {"candidates_per_second", seconds > 0 ? static_cast<double>(result.evaluations) / seconds : 0.0},
      {"tokens", spent.computed},
      {"tokens_without_sharing", spent.asked},
      // Tokens that earlier generations' layers stood for; steps of decoding; tokens that drafts proposed,
      // and the right ones: steps of a sequence not taken.
      {"work",
       {{"tokens_kept", spent.kept},
        {"decode_steps", spent.steps},
        {"drafted", spent.drafted},
        {"accepted", spent.accepted}}}};
  if (search.config().racing.on) search_json_["racing"] = raced_items(search.archive());
}

}  // namespace eep
