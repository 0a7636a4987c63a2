// The search itself: fitness over evaluations, finalists, pace, work.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/report/charts.h"
#include "experiments/report/figures.h"

namespace eep {
namespace {

constexpr size_t kMostPoints = 1200;  // drawn; the CSV file has all

const char* yes(bool value) { return value ? "true" : "false"; }

void add_rows(const std::string& search, const std::vector<EvaluationLine>& archive, Table* table) {
  std::optional<double> best;
  for (const EvaluationLine& line : archive) {
    if (!line.fresh && line.fitness && (!best || *line.fitness > *best)) best = line.fitness;
    table->add({search, std::to_string(line.evaluation), line.phase, std::to_string(line.generation),
                line.origin, number_text(line.fitness), number_text(line.tiebreak), yes(line.cached),
                yes(line.fresh), number_text(best)});
  }
}

XySeries points_series(const RunRecord& run) {
  XySeries series{"a candidate", 1, false, true, false, true};
  const size_t every = run.archive.size() / kMostPoints + 1;
  for (size_t i = 0; i < run.archive.size(); i += every) {
    const EvaluationLine& line = run.archive[i];
    if (!line.fitness || line.fresh) continue;
    series.marks.push_back({static_cast<double>(line.evaluation), *line.fitness, std::nullopt,
                            fmt::format("evaluation {}, {}, {}: {}", line.evaluation, line.phase, line.origin,
                                        number_text(line.fitness))});
  }
  return series;
}

XySeries median_series(const RunRecord& run) {
  XySeries series{"median of a generation", 2, true, false};
  std::map<std::pair<std::string, int64_t>, std::pair<std::vector<double>, int64_t>> generations;
  std::vector<std::pair<std::string, int64_t>> order;
  for (const EvaluationLine& line : run.archive) {
    if (!line.fitness || line.fresh) continue;
    const std::pair key(line.phase, line.generation);
    if (generations.count(key) == 0) order.push_back(key);
    generations[key].first.push_back(*line.fitness);
    generations[key].second = line.evaluation;
  }
  for (const auto& key : order) {
    auto& [values, last] = generations[key];
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    const double median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
    series.marks.push_back({static_cast<double>(last), median, std::nullopt, ""});
  }
  return series;
}

// "1,135,572"
std::string with_commas(double count) {
  std::string text = fmt::format("{:.0f}", count);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

}  // namespace

XySeries best_series(const std::string& name, int colour, const std::vector<EvaluationLine>& archive) {
  XySeries series{name, colour, true, false, true};
  std::optional<double> best;
  double last = 0;
  for (const EvaluationLine& line : archive) {
    if (line.fresh || !line.fitness) continue;
    last = static_cast<double>(line.evaluation);
    if (best && *line.fitness <= *best) continue;
    best = line.fitness;
    series.marks.push_back({last, *best, std::nullopt, ""});
  }
  if (best) series.marks.push_back({last, *best, std::nullopt, ""});
  return series;
}

XySeries chosen_series(const RunRecord& run, int colour) {
  XySeries series{"", colour, false, true};
  const MethodNumbers* const last = run.final_method();
  const bool stops = !run.archive.empty() && run.archive.back().fresh;
  if (!stops || run.fitness_is_loglik || last == nullptr || last->evaluations == 0 || !last->train)
    return series;
  series.marks.push_back({static_cast<double>(run.archive.back().evaluation), last->train->score,
                          std::nullopt, score_note("the chosen plan, " + last->name, *last->train)});
  return series;
}

void add_fitness(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  if (run.archive.empty()) return;
  Figure figure;
  figure.file = "fitness";
  figure.title = "Fitness over evaluations";
  figure.table.columns = {"search",  "evaluation", "phase",  "generation",  "origin",
                          "fitness", "tiebreak",   "cached", "fresh_items", "best"};
  add_rows("main", run.archive, &figure.table);
  XyChart chart;
  chart.text = {id + "-fitness", figure.title, ""};
  chart.x_label = "evaluation";
  chart.y_label = run.fitness_is_loglik ? "mean log-likelihood" : "train score, %";
  chart.whole_x = true;
  chart.percent = !run.fitness_is_loglik;
  chart.series = {points_series(run), median_series(run), best_series("best so far", 0, run.archive)};
  int colour = 3;
  for (const auto& [name, archive] : run.controls) {
    add_rows("control " + name, archive, &figure.table);
    chart.series.push_back(best_series("control " + name + ", best so far", colour++, archive));
  }
  chart.series.push_back(chosen_series(run, 0));
  chart.series.back().name = "the chosen plan";
  std::erase_if(chart.series, [](const XySeries& series) { return series.marks.empty(); });
  for (const EvaluationLine& line : run.archive) {
    const auto at = static_cast<double>(line.evaluation);
    if (chart.phases.empty() || chart.phases.back().name != line.phase)
      chart.phases.push_back({line.phase, at - (chart.phases.empty() ? 0 : 0.5), at});
    chart.phases.back().to = at + 0.5;
  }
  if (!run.fitness_is_loglik) {
    for (const MethodNumbers& method : run.methods) {
      if (!method.train || method.evaluations > 0) continue;
      chart.levels.push_back({method.name + " " + percent_text(method.train->score), method.train->score});
      figure.table.add(
          {"level " + method.name, "", "", "", "", number_text(method.train->score), "", "", "", ""});
    }
  }
  const EvaluationLine& last = run.archive.back();
  chart.text.description = fmt::format(
      "{} evaluations; the best reaches {}. Dashed lines: the full model and "
      "each one-shot method on the same items.",
      last.evaluation + 1, figure.table.rows[run.archive.size() - 1].back());
  figure.words =
      "Every candidate of the search on the train items, the median of each generation and the best so "
      "far. Dashed lines are the full model and the one-shot methods on the same items.";
  if (run.archive.size() > kMostPoints)
    figure.words += fmt::format(" One point in {} is drawn.", run.archive.size() / kMostPoints + 1);
  const bool fresh = std::any_of(run.archive.begin(), run.archive.end(),
                                 [](const EvaluationLine& line) { return line.fresh; });
  if (fresh)
    figure.words +=
        " Candidates that saw fresh items of a shard, or not all items, do not compare with these and are in "
        "the "
        "CSV file alone: lines end before them, and the plan that was chosen is a point on the same items.";
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

void add_finalists(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  if (run.finalists.empty()) return;
  Figure figure;
  figure.file = "finalists";
  figure.title = "Finalists: train against dev";
  figure.words =
      "The best candidates on the train items, which stood for choice on the dev items. Far below the "
      "diagonal: fitted to the train items.";
  figure.table.columns = {"method", "evaluation", "train", "dev", "chosen"};
  XyChart chart;
  chart.text = {id + "-finalists", figure.title, ""};
  chart.percent = chart.percent_x = !run.fitness_is_loglik;
  chart.x_label = chart.percent ? "train score, %" : "mean log-likelihood on train items";
  chart.y_label = chart.percent ? "dev score, %" : "mean log-likelihood on dev items";
  std::map<std::string, size_t> place;
  std::vector<XyMark> chosen;
  for (const FinalistLine& line : run.finalists) {
    figure.table.add({line.method, std::to_string(line.evaluation), number_text(line.train),
                      number_text(line.dev), yes(line.chosen)});
    const auto [found, added] = place.try_emplace(line.method, chart.series.size());
    if (added) chart.series.push_back({line.method, static_cast<int>(chart.series.size()), false, true});
    chart.series[found->second].marks.push_back(
        {line.train, line.dev, std::nullopt,
         fmt::format("{} evaluation {}: train {}, dev {}{}", line.method, line.evaluation,
                     number_text(line.train), number_text(line.dev), line.chosen ? ", chosen" : "")});
    if (line.chosen) chosen.push_back(chart.series[found->second].marks.back());
  }
  XySeries ring{"chosen", 5, false, true};
  ring.marks = chosen;
  if (!chosen.empty()) chart.series.push_back(ring);
  chart.text.description =
      fmt::format("{} finalists, train score across, dev score up.", run.finalists.size());
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

void add_pace(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  if (run.generations.size() < 2) return;
  Figure figure;
  figure.file = "pace";
  figure.title = "Pace of the search";
  figure.words = "Candidates a second, generation by generation.";
  figure.table.columns = {"phase",     "generation", "evaluations",
                          "evaluated", "wall_s",     "candidates_per_second"};
  XyChart chart;
  chart.text = {id + "-pace", figure.title, ""};
  chart.x_label = "evaluation";
  chart.y_label = "candidates a second";
  chart.height = 170;
  chart.whole_x = true;
  chart.from_zero = true;
  int64_t evaluations = 0;
  double seconds = 0;
  for (const GenerationLine& line : run.generations) {
    const double spent = line.wall_s - seconds;
    const double rate = spent > 0 ? static_cast<double>(line.evaluations - evaluations) / spent : 0;
    figure.table.add({line.phase, std::to_string(line.generation), std::to_string(line.evaluations),
                      std::to_string(line.evaluated), number_text(line.wall_s), number_text(rate)});
    if (chart.series.empty() || chart.series.back().name != line.phase)
      chart.series.push_back({line.phase, static_cast<int>(chart.series.size()), true, true});
    chart.series.back().marks.push_back({static_cast<double>(line.evaluations), rate, std::nullopt,
                                         fmt::format("{} generation {}: {} candidates a second", line.phase,
                                                     line.generation, number_text(rate))});
    evaluations = line.evaluations;
    seconds = line.wall_s;
  }
  chart.text.description = fmt::format("{} evaluations in {:.3g} seconds.", evaluations, seconds);
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

void add_work(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  if (!run.search.contains("tokens") || !run.search.contains("tokens_without_sharing")) return;
  const auto number = [&](const char* key) {
    const auto found = run.search.find(key);
    return found != run.search.end() && found->is_number() ? found->get<double>() : 0.0;
  };
  Figure figure;
  figure.file = "work";
  figure.title = "Work that was not done";
  figure.table.columns = {"quantity", "value"};
  const double asked = number("tokens_without_sharing"), computed = number("tokens");
  BarChart chart;
  chart.text = {id + "-work", figure.title, ""};
  chart.x_label = "tokens through the model";
  chart.series = {"tokens"};
  for (const auto& [name, value] : {std::pair("asked for", asked), std::pair("computed", computed)}) {
    figure.table.add({std::string("tokens ") + name, number_text(value)});
    chart.rows.push_back(
        {name, {value}, {fmt::format("tokens {}: {}", name, number_text(value))}, with_commas(value)});
  }
  const double factor = computed > 0 ? asked / computed : 0;
  figure.table.add({"factor", number_text(factor)});
  for (const char* key : {"evaluations", "unique", "seconds", "candidates_per_second"})
    figure.table.add({key, number_text(number(key))});
  if (run.search.contains("work") && run.search.at("work").is_object()) {
    for (const auto& [key, value] : run.search.at("work").items()) {
      if (value.is_number()) figure.table.add({"work " + key, number_text(value.get<double>())});
    }
  }
  figure.words = fmt::format(
      "Prefixes, layers and candidates that agree are computed once: {:.1f} times fewer tokens "
      "went through the model than were asked for, {:.4g} candidates a second.",
      factor, number("candidates_per_second"));
  chart.text.description = fmt::format("Tokens asked for and computed; a factor of {:.3g}.", factor);
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

}  // namespace eep
