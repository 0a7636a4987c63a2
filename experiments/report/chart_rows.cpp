// Rows of points with intervals, and rows of bars.
#include <algorithm>

#include "experiments/report/chart_parts.h"
#include "experiments/report/charts.h"

namespace eep {
namespace {

constexpr double kRowHeight = 26, kBarHeight = 16;

// A plot with named rows: the frame that both kinds share.
struct RowFrame {
  double left = 0, top = 0, bottom = 0;

  RowFrame(const std::vector<std::string>& names, const std::vector<LegendEntry>& legend, double row_height) {
    left = label_width(names) + 20;
    top = 18.0 * legend_lines(legend, kChartWidth - left - 10) + 8;
    bottom = top + row_height * static_cast<double>(names.size());
  }
};

void draw_names(const std::vector<std::string>& names, const RowFrame& frame, double row_height, Svg* svg) {
  for (size_t i = 0; i < names.size(); ++i)
    svg->text(frame.left - 10, frame.top + row_height * (static_cast<double>(i) + 0.5) + 4,
              shorten(names[i], kLabelLength), Anchor::kEnd);
}

}  // namespace

std::string draw(const RowChart& chart) {
  double low = chart.reference.value_or(1e300), high = chart.reference.value_or(-1e300);
  std::vector<std::string> names;
  for (const RowChart::Row& row : chart.rows) {
    names.push_back(row.name);
    for (const std::optional<RowMark>& mark : row.marks) {
      if (!mark) continue;
      low = std::min({low, mark->x, mark->interval ? mark->interval->low : mark->x});
      high = std::max({high, mark->x, mark->interval ? mark->interval->high : mark->x});
    }
  }
  if (low > high) low = high = 0;
  std::vector<LegendEntry> legend;
  for (size_t i = 0; i < chart.series.size(); ++i)
    legend.push_back({chart.series[i], colour_class(static_cast<int>(i)), static_cast<int>(i),
                      LegendEntry::Kind::kPoints});
  const double row_height = kRowHeight + (chart.series.size() > 2 ? 6 : 0);
  const RowFrame frame(names, legend, row_height);
  Axis axis = make_axis(low, high, 8, true, false, chart.percent ? 100 : 1);
  axis.pixel_low = frame.left;
  axis.pixel_high = kChartWidth - 24;

  Svg svg(chart.text.id, kChartWidth, frame.bottom + 44, chart.text.title, chart.text.description);
  draw_legend(legend, frame.left, 0, kChartWidth - frame.left - 10, &svg);
  for (size_t i = 1; i < names.size(); i += 2)
    svg.rect(frame.left, frame.top + row_height * static_cast<double>(i), axis.pixel_high - frame.left,
             row_height, "band");
  draw_x_axis(axis, frame.top, frame.bottom, chart.x_label, &svg);
  draw_names(names, frame, row_height, &svg);
  if (chart.reference)
    svg.line(axis.at(*chart.reference), frame.top, axis.at(*chart.reference), frame.bottom, "level");
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    for (size_t s = 0; s < chart.rows[i].marks.size(); ++s) {
      const std::optional<RowMark>& mark = chart.rows[i].marks[s];
      if (!mark) continue;
      const double shift = (static_cast<double>(s) - static_cast<double>(chart.series.size() - 1) / 2) * 8;
      const double y = frame.top + row_height * (static_cast<double>(i) + 0.5) + shift;
      const std::string classes = colour_class(static_cast<int>(s));
      if (mark->interval)
        svg.line(axis.at(mark->interval->low), y, axis.at(mark->interval->high), y, classes + " whisker");
      svg.marker(static_cast<int>(s), axis.at(mark->x), y, 4, classes, mark->note);
    }
  }
  return svg.str();
}

std::string draw(const BarChart& chart) {
  std::vector<std::string> names;
  double most = 0, end_width = 0;
  for (const BarChart::Row& row : chart.rows) {
    names.push_back(row.name);
    double sum = 0;
    for (const double part : row.parts) sum += part;
    most = std::max(most, sum);
    end_width = std::max(end_width, text_width(row.end, kFontSize));
  }
  const auto colour = [&](size_t series) {
    return colour_class(chart.colours.empty() ? static_cast<int>(series) : chart.colours[series]) + " bar";
  };
  std::vector<LegendEntry> legend;
  if (chart.series.size() > 1) {
    for (size_t i = 0; i < chart.series.size(); ++i)
      legend.push_back({chart.series[i], colour(i), 0, LegendEntry::Kind::kBar});
  }
  const RowFrame frame(names, legend, kRowHeight);
  Axis axis = make_axis(0, most > 0 ? most : 1, 7, true);
  axis.pixel_low = frame.left;
  axis.pixel_high = kChartWidth - 24 - end_width;

  Svg svg(chart.text.id, kChartWidth, frame.bottom + 44, chart.text.title, chart.text.description);
  draw_legend(legend, frame.left, 0, kChartWidth - frame.left - 10, &svg);
  draw_x_axis(axis, frame.top, frame.bottom, chart.x_label, &svg);
  draw_names(names, frame, kRowHeight, &svg);
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    const BarChart::Row& row = chart.rows[i];
    const double y = frame.top + kRowHeight * static_cast<double>(i) + (kRowHeight - kBarHeight) / 2;
    double begin = 0;
    for (size_t s = 0; s < row.parts.size(); ++s) {
      if (row.parts[s] <= 0) continue;
      svg.rect(axis.at(begin), y, axis.at(begin + row.parts[s]) - axis.at(begin), kBarHeight, colour(s),
               s < row.notes.size() ? row.notes[s] : "");
      begin += row.parts[s];
    }
    if (!row.end.empty()) svg.text(axis.at(begin) + 6, y + 12, row.end, Anchor::kStart, "soft");
  }
  return svg.str();
}

}  // namespace eep
