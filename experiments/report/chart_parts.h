// What charts share: the frame with its axes and the legend.
#pragma once

#include <string>
#include <vector>

#include "experiments/report/axis.h"
#include "experiments/report/svg.h"

namespace eep {

inline constexpr double kChartWidth = 760;
inline constexpr size_t kLabelLength = 28;  // characters of a name beside an axis

struct LegendEntry {
  std::string name;
  std::string classes;
  int shape = 0;
  enum class Kind : uint8_t { kPoints, kLine, kBoth, kBar } kind = Kind::kPoints;
};

// Lines that the entries take in this width.
int legend_lines(const std::vector<LegendEntry>& entries, double width);
void draw_legend(const std::vector<LegendEntry>& entries, double x, double y, double width, Svg* svg);

// Grid lines, tick labels and the axis' name; top, bottom, left, right: of the plot.
void draw_x_axis(const Axis& axis, double top, double bottom, const std::string& name, Svg* svg);
void draw_y_axis(const Axis& axis, double left, double right, const std::string& name, Svg* svg);

// Names of rows at the left of a plot: the width they take.
double label_width(const std::vector<std::string>& names);

}  // namespace eep
