// Which figures a page holds, the table of methods, and figures that lay several runs over each other.
#include "experiments/report/figures.h"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/report/charts.h"
#include "experiments/report/svg.h"
#include "experiments/study/seeds.h"

namespace eep {
namespace {

std::string interval_text(double value, const std::optional<Interval>& interval) {
  std::string text = fmt::format("{:.1f}", 100 * value);
  if (interval) text += fmt::format(" [{:.1f}, {:.1f}]", 100 * interval->low, 100 * interval->high);
  return text;
}

std::vector<std::string> method_cells(const MethodNumbers& method) {
  const std::optional<SplitNumbers>& test = method.test;
  return {method.name,
          std::to_string(method.experts),
          gib_text(method.bytes),
          test ? interval_text(test->score, test->interval) : "-",
          test && test->recovery ? interval_text(*test->recovery, test->recovery_interval) : "-",
          test && test->p_vs_full ? fmt::format("{:.2g}", *test->p_vs_full) : "-",
          std::to_string(method.evaluations),
          fmt::format("{:.1f}", method.seconds)};
}

const std::vector<std::string> kMethodColumns{"method",     "experts",   "size",        "test % [95%]",
                                              "recovery %", "p vs full", "evaluations", "seconds"};

Table methods_table() {
  return {{"task", "method", "experts", "top_k", "parameters", "bytes", "gib", "test", "low", "high", "n",
           "recovery", "recovery_low", "recovery_high", "p_vs_full", "evaluations", "seconds"},
          {}};
}

void add_method_row(const RunRecord& run, const MethodNumbers& method, Table* table) {
  const SplitNumbers none;
  const SplitNumbers& test = method.test ? *method.test : none;
  const auto ends = [](const std::optional<Interval>& interval, bool low) {
    return interval ? number_text(low ? interval->low : interval->high) : std::string();
  };
  table->add({run.task, method.name, std::to_string(method.experts), std::to_string(method.top_k),
              std::to_string(method.parameters), std::to_string(method.bytes), number_text(gib(method.bytes)),
              method.test ? number_text(test.score) : "", ends(test.interval, true),
              ends(test.interval, false), std::to_string(test.n), number_text(test.recovery),
              ends(test.recovery_interval, true), ends(test.recovery_interval, false),
              number_text(test.p_vs_full), std::to_string(method.evaluations), number_text(method.seconds)});
}

// Of several runs: the full model, the best one-shot method and what was searched.
std::vector<const MethodNumbers*> main_methods(const RunRecord& run) {
  std::vector<const MethodNumbers*> chosen;
  const MethodNumbers* best = nullptr;
  for (const MethodNumbers& method : run.methods) {
    if (!method.test) continue;
    if (method.name.starts_with("full") || method.evaluations > 0) continue;
    if (method.name != "random" && (best == nullptr || method.test->score > best->test->score))
      best = &method;
  }
  for (const MethodNumbers& method : run.methods) {
    if (method.name.starts_with("full") || method.evaluations > 0 || &method == best)
      chosen.push_back(&method);
  }
  return chosen;
}

void add_methods(std::span<const RunRecord> runs, std::vector<Figure>* figures) {
  Figure figure;
  figure.file = "methods";
  figure.title = "Methods";
  figure.table = methods_table();
  figure.words =
      "Recovery is the test score over the full model's, with a 95% interval over the same items. p: exact "
      "McNemar test for right-or-wrong metrics, sign flips otherwise.";
  std::vector<std::vector<std::string>> rows;
  for (const RunRecord& run : runs) {
    for (const MethodNumbers& method : run.methods) add_method_row(run, method, &figure.table);
    std::vector<const MethodNumbers*> shown = main_methods(run);
    if (runs.size() == 1) {
      shown.clear();
      for (const MethodNumbers& method : run.methods) shown.push_back(&method);
    }
    for (const MethodNumbers* method : shown) {
      std::vector<std::string> cells = method_cells(*method);
      if (runs.size() > 1) cells.insert(cells.begin(), {run.label, run.task});
      rows.push_back(std::move(cells));
    }
  }
  if (rows.empty()) return;
  std::vector<std::string> columns = kMethodColumns;
  if (runs.size() > 1) columns.insert(columns.begin(), {"run", "task"});
  if (runs.size() > 1) figure.words += " Of the one-shot methods the best; the CSV file has all.";
  figure.body = html_table(columns, rows, runs.size() > 1 ? 3 : 1);
  figures->push_back(std::move(figure));
}

void add_seeds(std::span<const RunRecord> runs, std::vector<Figure>* figures) {
  std::vector<RunRow> rows;
  for (const RunRecord& run : runs) {
    if (run.finished) rows.push_back({run.result, run.label, run.setting, run.path});
  }
  if (rows.empty()) return;
  const Json summary = seeds_summary(rows);
  Figure figure;
  figure.file = "seeds";
  figure.title = "Means over seeds";
  figure.words =
      "Mean test score over seeds with Student's 95% interval. p: over seeds, with Holm's correction for all "
      "searched plans of the page.";
  figure.table.columns = {"task", "setting", "method", "experts",      "seeds",
                          "mean", "low",     "high",   "holm_vs_full", "holm_vs_prune"};
  RowChart chart;
  chart.text = {"all-seeds", figure.title, "Mean test scores with intervals over seeds."};
  chart.x_label = "mean test score, %";
  chart.percent = true;
  chart.series = {"mean"};
  bool several = false;
  for (const Json& cell : summary) {
    const auto number = [&](const char* key) {
      return cell.contains(key) && cell.at(key).is_number() ? std::optional(cell.at(key).get<double>())
                                                            : std::nullopt;
    };
    const double mean = cell.at("mean").get<double>();
    std::optional<Interval> interval;
    if (!cell.at("ci95").is_null())
      interval = Interval{cell.at("ci95")[0].get<double>(), cell.at("ci95")[1].get<double>()};
    const std::string task = cell.at("task").get<std::string>(), setting = cell.at("run").get<std::string>();
    const std::string method = cell.at("method").get<std::string>(), experts = cell.at("experts").dump();
    several |= cell.at("seeds").get<int64_t>() > 1;
    figure.table.add({task, setting, method, experts, cell.at("seeds").dump(), number_text(mean),
                      interval ? number_text(interval->low) : "", interval ? number_text(interval->high) : "",
                      number_text(number("holm_vs_full")), number_text(number("holm_vs_prune"))});
    std::string name = task + ", " + method + (method.starts_with("full") ? "" : ", " + experts);
    if (!setting.empty()) name = setting + ", " + name;
    chart.rows.push_back({name,
                          {RowMark{mean, interval,
                                   fmt::format("{}: {} ({}) over {} seeds", name, percent_text(mean),
                                               number_text(mean), cell.at("seeds").dump())}}});
  }
  if (!several) return;
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

}  // namespace

std::string percent_text(double fraction) { return fmt::format("{:.1f} %", 100 * fraction); }

std::string score_note(const std::string& what, const SplitNumbers& numbers) {
  std::string note =
      fmt::format("{}: {} ({})", what, percent_text(numbers.score), number_text(numbers.score));
  if (numbers.interval)
    note += fmt::format(", 95% interval {} to {}", percent_text(numbers.interval->low),
                        percent_text(numbers.interval->high));
  return note + fmt::format(", n = {}", numbers.n);
}

double gib(int64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0 * 1024.0); }

std::string gib_text(int64_t bytes) { return fmt::format("{:.3g} GiB", gib(bytes)); }

std::string html_table(const std::vector<std::string>& columns,
                       const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::string html = "<div class=\"wide\"><table><thead><tr>";
  for (size_t i = 0; i < columns.size(); ++i)
    html += fmt::format("<th scope=\"col\"{}>{}</th>", i < left ? "" : " class=\"number\"",
                        escape_markup(columns[i]));
  html += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    html += "<tr>";
    for (size_t i = 0; i < row.size(); ++i)
      html += fmt::format("<td{}>{}</td>", i < left ? "" : " class=\"number\"", escape_markup(row[i]));
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::span<const std::string_view> figure_files() {
  static constexpr std::string_view kFiles[] = {
      "methods", "size",       "best",   "seeds",   "agreement",   "agreement_runs", "against",
      "fitness", "finalists",  "scores", "experts", "coverage",    "matrices",       "items",
      "probes",  "generation", "pace",   "work",    "export_check"};
  return kFiles;
}

std::vector<Figure> run_figures(const RunRecord& run, const std::string& id, bool items) {
  std::vector<Figure> figures;
  add_methods(std::span(&run, 1), &figures);
  add_fitness(run, id, &figures);
  add_finalists(run, id, &figures);
  add_splits(run, id, &figures);
  add_expert_map(run, id, &figures);
  add_coverage(run, id, &figures);
  add_matrices(run, id, &figures);
  add_agreement(std::span(&run, 1), id, &figures);
  if (items) add_items(run, id, &figures);
  if (items) add_probes(run, id, &figures);
  add_generation(run, id, &figures);
  add_pace(run, id, &figures);
  add_work(run, id, &figures);
  add_checks(run, &figures);
  return figures;
}

std::vector<Figure> comparison_figures(std::span<const RunRecord> runs) {
  // A row a method and run is a long table where there are many: means come before it.
  constexpr size_t kFewRuns = 8;
  std::vector<Figure> figures;
  if (runs.size() == 1) {
    add_size(runs, "all", &figures);
    return figures;
  }
  if (runs.size() <= kFewRuns) add_methods(runs, &figures);
  if (runs.size() > kFewRuns) add_seeds(runs, &figures);
  add_size(runs, "all", &figures);
  add_curves(runs, &figures);
  if (runs.size() <= kFewRuns) add_seeds(runs, &figures);
  add_agreement(runs, "all", &figures);
  if (runs.size() > kFewRuns) add_methods(runs, &figures);
  return figures;
}

}  // namespace eep
