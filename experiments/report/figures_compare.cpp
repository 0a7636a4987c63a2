// Several runs, or several budgets, in one picture a task: scores against size, and how searches went.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "experiments/report/charts.h"
#include "experiments/report/figures.h"
#include "experiments/report/svg.h"

namespace eep {
namespace {

constexpr size_t kMostCurves = 12;     // of runs over each other
constexpr double kPanelWidth = 470;    // pixels of one picture of several
constexpr double kPanelHeight = 230;   // of its plot
constexpr double kSideBySide = 0.012;  // of the axis, between methods of one size

const char* const kOneShot = "one-shot methods";

struct SizePoint {
  std::string method;
  bool searched = false;
  int64_t bytes = 0, experts = 0;
  SplitNumbers test;

  bool is_full() const { return method.starts_with("full"); }
};

struct Panel {
  std::string task;
  std::vector<SizePoint> points{};
};

// One picture as it is, several side by side under their names.
std::string panels(const std::vector<std::pair<std::string, XyChart>>& charts) {
  if (charts.size() == 1) return draw(charts[0].second);
  std::string html = "<div class=\"panels\">\n";
  for (const auto& [name, given] : charts) {
    XyChart chart = given;
    chart.width = kPanelWidth;
    chart.height = kPanelHeight;
    html += fmt::format("<div><h4>{}</h4>{}</div>\n", escape_markup(name), draw(chart));
  }
  return html + "</div>\n";
}

// Of runs that differ in what the picture does not show (seeds): their mean, the bar from the lowest to the
// highest.
XyMark mark_of(const std::vector<const SizePoint*>& runs, const std::string& name, double unit) {
  const SizePoint& first = *runs[0];
  XyMark mark;
  mark.x = static_cast<double>(first.bytes) / unit;
  const std::string what = fmt::format("{}, {} experts, {}", name, first.experts, gib_text(first.bytes));
  if (runs.size() == 1) {
    mark.y = first.test.score;
    mark.interval = first.test.interval;
    mark.note = score_note(what, first.test);
    return mark;
  }
  double low = first.test.score, high = low, sum = 0;
  for (const SizePoint* run : runs) {
    low = std::min(low, run->test.score);
    high = std::max(high, run->test.score);
    sum += run->test.score;
  }
  mark.y = sum / static_cast<double>(runs.size());
  mark.interval = Interval{low, high};
  mark.note = fmt::format("{}: mean {} ({}) of {} runs, {} to {}", what, percent_text(mark.y),
                          number_text(mark.y), runs.size(), percent_text(low), percent_text(high));
  return mark;
}

using BySize = std::map<int64_t, std::vector<const SizePoint*>>;

XySeries series_of(const std::string& name, int colour, const BySize& sizes, double unit) {
  XySeries series{name, colour, true, true};
  for (const auto& [bytes, runs] : sizes) series.marks.push_back(mark_of(runs, name, unit));
  return series;
}

// The full model, every one-shot method as a pale point, the best of them at each size, and what was
// searched.
XyChart size_chart(const Panel& panel, double unit) {
  BySize full;
  std::map<std::string, BySize> one_shot;
  std::vector<std::pair<std::string, BySize>> searched;
  for (const SizePoint& point : panel.points) {
    BySize* own = &full;
    if (!point.is_full() && !point.searched) own = &one_shot[point.method];
    if (point.searched) {
      auto found = std::find_if(searched.begin(), searched.end(),
                                [&](const auto& known) { return known.first == point.method; });
      if (found == searched.end()) found = searched.insert(found, {point.method, {}});
      own = &found->second;
    }
    (*own)[point.bytes].push_back(&point);
  }
  XyChart chart;
  XySeries cloud{kOneShot, 5, false, true, false, true}, best{"best of them", 1, true, true};
  std::map<int64_t, XyMark> best_of;
  for (const auto& [method, sizes] : one_shot) {
    for (const auto& [bytes, runs] : sizes) {
      XyMark mark = mark_of(runs, method, unit);
      const auto [known, fresh] = best_of.try_emplace(bytes, mark);
      if (!fresh && mark.y > known->second.y) known->second = mark;
      mark.interval.reset();
      cloud.marks.push_back(mark);
    }
  }
  for (const auto& [bytes, mark] : best_of) best.marks.push_back(mark);
  if (!full.empty()) chart.series.push_back(series_of("full model", 6, full, unit));
  if (one_shot.size() > 1) chart.series.push_back(cloud);
  if (one_shot.size() == 1) best.name = one_shot.begin()->first;
  if (!one_shot.empty()) chart.series.push_back(best);
  constexpr int kColours[] = {2, 0, 3, 4, 7};
  for (size_t i = 0; i < searched.size(); ++i)
    chart.series.push_back(
        series_of(searched[i].first, kColours[i % std::size(kColours)], searched[i].second, unit));
  return chart;
}

// A label without the task, which the picture's name says.
std::string without_task(const RunRecord& run) {
  std::string text;
  for (size_t begin = 0; begin <= run.label.size();) {
    const size_t end = std::min(run.label.find(',', begin), run.label.size());
    const std::string part = run.label.substr(begin, end - begin);
    if (!part.starts_with("task.name=")) text += (text.empty() ? "" : ",") + part;
    begin = end + 1;
  }
  return text.empty() ? run.label : text;
}

// Of every method of every run; the full model of a sweep's runs once.
std::vector<Panel> size_panels(std::span<const RunRecord> runs, Table* table) {
  std::vector<Panel> found;
  std::set<std::vector<std::string>> seen;
  for (const RunRecord& run : runs) {
    auto panel =
        std::find_if(found.begin(), found.end(), [&](const Panel& each) { return each.task == run.task; });
    if (panel == found.end()) panel = found.insert(panel, {run.task});
    for (const MethodNumbers& method : run.methods) {
      if (!method.test) continue;
      const SplitNumbers& test = *method.test;
      std::vector<std::string> row{run.task,
                                   method.name,
                                   std::to_string(method.experts),
                                   std::to_string(method.bytes),
                                   number_text(gib(method.bytes)),
                                   number_text(test.score),
                                   test.interval ? number_text(test.interval->low) : "",
                                   test.interval ? number_text(test.interval->high) : "",
                                   std::to_string(test.n)};
      const bool repeated = method.name == "full" && !seen.insert(row).second;
      row.insert(row.begin(), run.label);
      table->add(std::move(row));
      if (!repeated)
        panel->points.push_back({method.name, method.evaluations > 0, method.bytes, method.experts, test});
    }
  }
  std::erase_if(found, [](const Panel& panel) { return panel.points.empty(); });
  return found;
}

}  // namespace

void add_size(std::span<const RunRecord> runs, const std::string& id, std::vector<Figure>* figures) {
  Figure figure;
  figure.file = "size";
  figure.title = "Test score against size";
  figure.words =
      "The full model, all one-shot methods (pale) with the best of them at each size (the best on these "
      "scores: it is "
      "flattered), and what was searched. Bars are 95% intervals of one run; of several runs (seeds) the "
      "mean is "
      "drawn, with a bar from the lowest to the highest. Methods of one size are drawn beside each other.";
  figure.table.columns = {"run", "task", "method", "experts", "bytes", "gib", "score", "low", "high", "n"};
  const std::vector<Panel> found = size_panels(runs, &figure.table);
  std::set<int64_t> sizes;
  for (const Panel& panel : found) {
    for (const SizePoint& point : panel.points) sizes.insert(point.bytes);
  }
  if (sizes.size() < 2) return;
  const bool small = *sizes.rbegin() < (int64_t{1} << 28);
  const double unit = small ? 1024.0 * 1024.0 : 1024.0 * 1024.0 * 1024.0;
  const double width = static_cast<double>(*sizes.rbegin() - *sizes.begin()) / unit;
  std::vector<std::pair<std::string, XyChart>> charts;
  for (const Panel& panel : found) {
    XyChart chart = size_chart(panel, unit);
    chart.text = {
        fmt::format("{}-size-{}", id, charts.size()), figure.title + ", " + panel.task,
        fmt::format("{} points of task {}, size across, test score up.", panel.points.size(), panel.task)};
    chart.x_label = small ? "size, MiB" : "size, GiB";
    chart.y_label = "test score, %";
    chart.percent = true;
    for (size_t s = 0; s < chart.series.size(); ++s) {
      const double shift =
          (static_cast<double>(s) - static_cast<double>(chart.series.size() - 1) / 2) * kSideBySide;
      for (XyMark& mark : chart.series[s].marks) mark.x += shift * width;
    }
    charts.emplace_back(panel.task, std::move(chart));
  }
  figure.body = panels(charts);
  figures->push_back(std::move(figure));
}

void add_curves(std::span<const RunRecord> runs, std::vector<Figure>* figures) {
  Figure figure;
  figure.file = "best";
  figure.title = "Best fitness so far, run by run";
  figure.words = "The best candidate so far on the train items of each run.";
  // Its numbers are those of fitness.csv; here where the curve rises, run by run.
  figure.table.columns = {"run", "evaluation", "best"};
  std::vector<std::pair<std::string, XyChart>> charts;
  size_t curves = 0;
  bool stops = false;
  const bool percent = !runs[0].fitness_is_loglik;
  for (const RunRecord& run : runs) {
    if (run.archive.empty() || run.fitness_is_loglik == percent || curves == kMostCurves) continue;
    auto chart =
        std::find_if(charts.begin(), charts.end(), [&](const auto& each) { return each.first == run.task; });
    const int colour = chart == charts.end() ? 0 : static_cast<int>(chart->second.series.size());
    XySeries series = best_series("", colour, run.archive);
    XySeries chosen = chosen_series(run, colour);
    if (series.marks.empty()) continue;
    if (chart == charts.end()) chart = charts.insert(chart, {run.task, {}});
    for (const XyMark& mark : series.marks)
      figure.table.add({run.label, number_text(mark.x), number_text(mark.y)});
    series.name = without_task(run);
    chart->second.series.push_back(std::move(series));
    stops |= !chosen.marks.empty();
    chart->second.series.push_back(std::move(chosen));  // keeps colours apart, may be empty
    ++curves;
  }
  if (curves < 2) return;
  if (stops) {
    figure.words +=
        " A line ends where the search goes on with fresh items, on which scores do not compare; the point "
        "at the "
        "end is then the plan that was chosen, on the same train items.";
  }
  if (runs.size() > kMostCurves) figure.words += fmt::format(" The first {} runs.", kMostCurves);
  size_t number = 0;
  for (auto& [task, chart] : charts) {
    for (size_t i = 0; i < chart.series.size(); ++i) chart.series[i].colour = static_cast<int>(i / 2);
    chart.text = {"all-best-" + std::to_string(number++), figure.title + ", " + task,
                  fmt::format("{} runs of task {}.", chart.series.size() / 2, task)};
    chart.x_label = "evaluation";
    chart.whole_x = true;
    chart.percent = percent;
    chart.y_label = percent ? "train score, %" : "mean log-likelihood";
  }
  if (charts.size() == 1) charts[0].second.text.title = figure.title;
  figure.body = panels(charts);
  figures->push_back(std::move(figure));
}

}  // namespace eep
