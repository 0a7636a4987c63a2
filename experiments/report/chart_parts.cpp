#include "experiments/report/chart_parts.h"

#include <algorithm>

namespace eep {
namespace {

constexpr double kLegendLine = 18, kLegendMark = 22, kLegendGap = 18;

double entry_width(const LegendEntry& entry) {
  return kLegendMark + text_width(shorten(entry.name, kLabelLength), kFontSize) + kLegendGap;
}

}  // namespace

int legend_lines(const std::vector<LegendEntry>& entries, double width) {
  int lines = entries.empty() ? 0 : 1;
  double x = 0;
  for (const LegendEntry& entry : entries) {
    const double wide = entry_width(entry);
    if (x > 0 && x + wide > width) {
      ++lines;
      x = 0;
    }
    x += wide;
  }
  return lines;
}

void draw_legend(const std::vector<LegendEntry>& entries, double x, double y, double width, Svg* svg) {
  double at = 0;
  y += kLegendLine / 2;
  for (const LegendEntry& entry : entries) {
    const double wide = entry_width(entry);
    if (at > 0 && at + wide > width) {
      y += kLegendLine;
      at = 0;
    }
    using Kind = LegendEntry::Kind;
    if (entry.kind == Kind::kBar) {
      svg->rect(x + at + 2, y - 6, 12, 12, entry.classes);
    } else {
      if (entry.kind != Kind::kPoints) svg->line(x + at, y, x + at + 16, y, entry.classes);
      if (entry.kind != Kind::kLine) svg->marker(entry.shape, x + at + 8, y, 4, entry.classes);
    }
    svg->text(x + at + kLegendMark, y + 4, shorten(entry.name, kLabelLength));
    at += wide;
  }
}

void draw_x_axis(const Axis& axis, double top, double bottom, const std::string& name, Svg* svg) {
  double free_from = -1e9;
  for (const double tick : axis.ticks) {
    const double x = axis.at(tick), half = text_width(axis.label(tick), kFontSize) / 2;
    svg->line(x, top, x, bottom, "grid");
    if (x - half < free_from) continue;
    svg->text(x, bottom + 16, axis.label(tick), Anchor::kMiddle, "soft");
    free_from = x + half + 6;
  }
  svg->line(axis.pixel_low, bottom, axis.pixel_high, bottom, "axis");
  svg->text((axis.pixel_low + axis.pixel_high) / 2, bottom + 34, name, Anchor::kMiddle);
}

void draw_y_axis(const Axis& axis, double left, double right, const std::string& name, Svg* svg) {
  for (const double tick : axis.ticks) {
    svg->line(left, axis.at(tick), right, axis.at(tick), "grid");
    svg->text(left - 6, axis.at(tick) + 4, axis.label(tick), Anchor::kEnd, "soft");
  }
  svg->turned_text(14, (axis.pixel_low + axis.pixel_high) / 2, -90, name, Anchor::kMiddle);
}

double label_width(const std::vector<std::string>& names) {
  double width = 0;
  for (const std::string& name : names)
    width = std::max(width, text_width(shorten(name, kLabelLength), kFontSize));
  return width;
}

}  // namespace eep
