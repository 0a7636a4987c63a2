// Points and lines over two axes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "experiments/report/chart_parts.h"
#include "experiments/report/charts.h"

namespace eep {
namespace {

constexpr double kLabelStep = 14;

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

// Labels beside their lines, moved apart where they would lie on each other: [levels] y of each text.
std::vector<double> spread_labels(std::vector<double> wanted, double top, double bottom) {
  std::vector<size_t> order(wanted.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
  double next = top;
  for (const size_t i : order) {
    wanted[i] = std::max(wanted[i], next);
    next = wanted[i] + kLabelStep;
  }
  double last = bottom;
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    wanted[*i] = std::min(wanted[*i], last);
    last = wanted[*i] - kLabelStep;
  }
  return wanted;
}

// After all colours were used once, colours and shapes pair anew.
int shape_of(int colour) { return colour + 3 * (colour / kSeriesColours); }

std::vector<LegendEntry> legend_of(const XyChart& chart) {
  std::vector<LegendEntry> legend;
  for (const XySeries& series : chart.series) {
    if (series.name.empty()) continue;
    using Kind = LegendEntry::Kind;
    legend.push_back({series.name, colour_class(series.colour) + (series.faint ? " faint" : ""),
                      shape_of(series.colour),
                      !series.line    ? Kind::kPoints
                      : series.points ? Kind::kBoth
                                      : Kind::kLine});
  }
  return legend;
}

void draw_series(const XySeries& series, const Axis& x, const Axis& y, Svg* svg) {
  const std::string classes = colour_class(series.colour) + (series.faint ? " faint" : "");
  if (series.line) {
    std::vector<std::pair<double, double>> points;
    for (const XyMark& mark : series.marks) {
      if (series.step && !points.empty()) points.emplace_back(x.at(mark.x), points.back().second);
      points.emplace_back(x.at(mark.x), y.at(mark.y));
    }
    svg->polyline(points, classes + " line");
  }
  for (const XyMark& mark : series.marks) {
    if (mark.interval)
      svg->line(x.at(mark.x), y.at(mark.interval->low), x.at(mark.x), y.at(mark.interval->high),
                classes + " whisker");
    if (series.points)
      svg->marker(shape_of(series.colour), x.at(mark.x), y.at(mark.y), series.faint ? 2.5 : 4.5, classes,
                  mark.note);
  }
}

}  // namespace

std::string draw(const XyChart& chart) {
  Range xs, ys;
  for (const XySeries& series : chart.series) {
    for (const XyMark& mark : series.marks) {
      xs.add(mark.x);
      ys.add(mark.y);
      if (mark.interval) {
        ys.add(mark.interval->low);
        ys.add(mark.interval->high);
      }
    }
  }
  for (const XyLevel& level : chart.levels) ys.add(level.y);
  for (const XyPhase& phase : chart.phases) {
    xs.add(phase.from);
    xs.add(phase.to);
  }
  if (chart.from_zero && !ys.empty()) ys.add(0);
  if (xs.empty()) xs.add(0);
  if (ys.empty()) ys.add(0);

  Axis y = make_axis(ys.low, ys.high, 6, true, false, chart.percent ? 100 : 1);
  Axis x = make_axis(xs.low, xs.high, 8, false, chart.whole_x, chart.percent_x ? 100 : 1);
  std::vector<std::string> names;
  for (const XyLevel& level : chart.levels) names.push_back(level.name);
  double tick_width = 0;
  for (const double tick : y.ticks) tick_width = std::max(tick_width, text_width(y.label(tick), kFontSize));
  const double left = 30 + tick_width,
               right = chart.width - 10 - (names.empty() ? 6 : label_width(names) + 18);
  const std::vector<LegendEntry> legend = legend_of(chart);
  const double legend_height = 18.0 * legend_lines(legend, chart.width - left - 10) + 4;
  const double top = legend_height + (chart.phases.empty() ? 8 : 22), bottom = top + chart.height;
  x.pixel_low = left;
  x.pixel_high = right;
  y.pixel_low = bottom;
  y.pixel_high = top;

  Svg svg(chart.text.id, chart.width, bottom + 44, chart.text.title, chart.text.description);
  draw_legend(legend, left, 0, chart.width - left - 10, &svg);
  for (size_t i = 0; i < chart.phases.size(); ++i) {
    const XyPhase& phase = chart.phases[i];
    const double from = x.at(phase.from), to = x.at(phase.to);
    if (i % 2 == 1) svg.rect(from, top, to - from, bottom - top, "band");
    svg.text((from + to) / 2, top - 6, phase.name, Anchor::kMiddle, "soft");
  }
  draw_x_axis(x, top, bottom, chart.x_label, &svg);
  draw_y_axis(y, left, right, chart.y_label, &svg);
  std::vector<double> wanted;
  for (const XyLevel& level : chart.levels) wanted.push_back(y.at(level.y));
  const std::vector<double> places = spread_labels(wanted, top, bottom);
  for (size_t i = 0; i < chart.levels.size(); ++i) {
    svg.line(left, wanted[i], right, wanted[i], "level");
    svg.line(right, wanted[i], right + 10, places[i], "leader");
    svg.text(right + 13, places[i] + 4, shorten(chart.levels[i].name, kLabelLength), Anchor::kStart, "soft");
  }
  for (const XySeries& series : chart.series) draw_series(series, x, y, &svg);
  return svg.str();
}

}  // namespace eep
