// A grid of values: shades of one colour, of two where values have signs.
#include <algorithm>
#include <cmath>

#include "experiments/report/chart_parts.h"
#include "experiments/report/charts.h"

namespace eep {
namespace {

constexpr double kLargestCell = 34, kSmallestCell = 3, kSmallestNamed = 11;
constexpr size_t kMostNotes = 4096;  // cells above that are drawn without a note each
constexpr int kShades = 24;

struct Layout {
  double left = 0, top = 0, cell_width = 0, cell_height = 0, width = 0, height = 0;

  double x(size_t column) const { return left + cell_width * static_cast<double>(column); }
  double y(size_t row) const { return top + cell_height * static_cast<double>(row); }
};

bool turned(const Grid& grid, double cell) { return label_width(grid.columns) > cell - 4; }

Layout layout_of(const Grid& grid, double legend_height) {
  Layout layout;
  layout.left = label_width(grid.rows) + (grid.row_label.empty() ? 14 : 30);
  const double room = kChartWidth - layout.left - 10;
  const double fits = room / static_cast<double>(std::max<size_t>(1, grid.columns.size()));
  layout.cell_width = std::clamp(grid.cell > 0 ? grid.cell : fits, kSmallestCell,
                                 grid.cell_texts.empty() ? kLargestCell : 56.0);
  layout.cell_height = std::min(layout.cell_width, 26.0);
  if (grid.arcs.empty() && grid.rows.size() > 24) layout.cell_height = std::min(layout.cell_height, 14.0);
  // arcs need room
  if (!grid.arcs.empty())
    layout.cell_height = std::max(layout.cell_height, grid.rows.size() > 16 ? 22.0 : 34.0);
  const bool slanted = turned(grid, layout.cell_width) && layout.cell_width >= kSmallestNamed;
  layout.top = legend_height + (grid.column_label.empty() ? 6 : 22) +
               (slanted ? std::min(150.0, label_width(grid.columns) * 0.75 + 8) : 18);
  layout.width = layout.cell_width * static_cast<double>(grid.columns.size());
  layout.height = layout.cell_height * static_cast<double>(grid.rows.size());
  return layout;
}

void draw_names(const Grid& grid, const Layout& layout, Svg* svg) {
  const bool slanted = turned(grid, layout.cell_width);
  const size_t every_column = layout.cell_width >= kSmallestNamed || grid.columns.empty()
                                  ? 1
                                  : static_cast<size_t>(std::ceil(
                                        (slanted ? label_width(grid.columns) + 8 : 14) / layout.cell_width));
  for (size_t i = 0; i < grid.columns.size(); i += every_column) {
    const double x = layout.x(i) + layout.cell_width / 2;
    if (slanted && every_column == 1) {
      svg->turned_text(x + 3, layout.top - 6, -45, shorten(grid.columns[i], kLabelLength), Anchor::kStart);
    } else {
      svg->text(x, layout.top - 6, shorten(grid.columns[i], kLabelLength), Anchor::kMiddle, "soft");
    }
  }
  const size_t every_row =
      layout.cell_height >= kSmallestNamed ? 1 : static_cast<size_t>(std::ceil(13 / layout.cell_height));
  for (size_t i = 0; i < grid.rows.size(); i += every_row)
    svg->text(layout.left - 6, layout.y(i) + layout.cell_height / 2 + 4, shorten(grid.rows[i], kLabelLength),
              Anchor::kEnd, "soft");
  if (!grid.column_label.empty())
    svg->text(layout.left, layout.top - (layout.top > 90 ? layout.top - 34 : 22), grid.column_label);
  if (!grid.row_label.empty())
    svg->turned_text(12, layout.top + std::max(20.0, layout.height / 2), -90, grid.row_label,
                     Anchor::kMiddle);
}

// The scale of shades: an end, the middle, the other end. Returns where it ends; svg may be null.
double draw_scale(const Grid& grid, double most, double x, Svg* svg) {
  const int steps = 12;
  double at = x;
  const auto strip = [&](const char* classes, bool falling) {
    for (int i = 0; i < steps; ++i, at += 7) {
      if (svg == nullptr) continue;
      svg->rect(at, 3, 7, 11, classes, {}, (falling ? steps - i : i + 1) / static_cast<double>(steps));
    }
  };
  const auto number = [&](double value) {
    const std::string text = coordinate(std::abs(value) < 0.01 && value != 0 ? 0 : value);
    if (svg != nullptr)
      svg->text(at + 4, 13, text == "0" && value != 0 ? (value < 0 ? "\u22120.01" : "0.01") : text,
                Anchor::kStart, "soft");
    at += text_width(text, kFontSize) + 12;
  };
  if (svg != nullptr) svg->text(at, 13, grid.value_label);
  at += text_width(grid.value_label, kFontSize) + 10;
  if (grid.is_signed) {
    number(-most);
    strip("low", true);
  }
  number(0);
  strip("high", false);
  number(most);
  return at + 10;
}

void draw_cells(const Grid& grid, const Layout& layout, double most, Svg* svg) {
  const double gap = layout.cell_width >= 8 ? 1 : 0;
  const bool noted = grid.values.size() <= kMostNotes;
  std::vector<std::string> shades(static_cast<size_t>(2 * kShades + 1));  // a path each, where cells are many
  for (size_t row = 0; row < grid.rows.size(); ++row) {
    for (size_t column = 0; column < grid.columns.size(); ++column) {
      const size_t at = row * grid.columns.size() + column;
      const double width = layout.cell_width - gap, height = layout.cell_height - gap;
      if (!grid.values[at]) continue;
      const double share = most > 0 ? std::clamp(*grid.values[at] / most, -1.0, 1.0) : 0;
      if (noted) {
        svg->rect(layout.x(column), layout.y(row), width, height, share < 0 ? "low" : "high",
                  grid.notes.empty() ? "" : grid.notes[at], std::min(0.999, std::abs(share)));
      } else if (const int shade = static_cast<int>(std::lround(share * kShades)); shade != 0) {
        shades[static_cast<size_t>(shade + kShades)] +=
            "M" + coordinate(layout.x(column)) + " " + coordinate(layout.y(row)) + "h" + coordinate(width) +
            "v" + coordinate(height) + "h-" + coordinate(width) + "z";
      }
      if (!grid.cell_texts.empty() && layout.cell_width >= 24)
        svg->text(layout.x(column) + width / 2, layout.y(row) + height / 2 + 4, grid.cell_texts[at],
                  Anchor::kMiddle, std::abs(share) > 0.6 ? "onshade" : "");
    }
  }
  for (int shade = -kShades; shade <= kShades; ++shade) {
    const std::string& path = shades[static_cast<size_t>(shade + kShades)];
    if (!path.empty()) svg->path(path, shade < 0 ? "low" : "high", {}, std::abs(shade) / double{kShades});
  }
  if (grid.marked.empty()) return;
  std::string frames;
  for (size_t at = 0; at < grid.values.size(); ++at) {
    if (grid.marked[at] == 0) continue;
    const double inset = layout.cell_width >= 8 ? 0.5 : 0;
    frames += "M" + coordinate(layout.x(at % grid.columns.size()) + inset) + " " +
              coordinate(layout.y(at / grid.columns.size()) + inset) + "h" +
              coordinate(layout.cell_width - gap - 2 * inset) + "v" +
              coordinate(layout.cell_height - gap - 2 * inset) + "h-" +
              coordinate(layout.cell_width - gap - 2 * inset) + "z";
  }
  if (!frames.empty()) svg->path(frames, layout.cell_width >= 8 ? "frame" : "frame thin");
}

void draw_arcs(const Grid& grid, const Layout& layout, Svg* svg) {
  for (const Grid::Arc& arc : grid.arcs) {
    const double from = layout.x(arc.from) + layout.cell_width / 2,
                 to = layout.x(arc.to) + layout.cell_width / 2;
    // Longer ones rise higher, so that they can be told apart.
    const double reach = std::abs(to - from) / std::max(1.0, layout.width - layout.cell_width);
    const double y = layout.y(arc.row) + layout.cell_height * 0.82;
    const double rise = layout.cell_height * (0.5 + 1.0 * reach);
    svg->path("M" + coordinate(from) + " " + coordinate(y) + "Q" + coordinate((from + to) / 2) + " " +
                  coordinate(y - rise) + " " + coordinate(to) + " " + coordinate(y),
              arc.weight > 0.5 ? "arc strong" : "arc", arc.note);
    svg->marker(0, to, y, 2.4, "arcend");
  }
}

}  // namespace

std::string draw(const Grid& grid) {
  double most = grid.most;
  if (most <= 0) {
    for (const std::optional<double>& value : grid.values) most = std::max(most, std::abs(value.value_or(0)));
  }
  const Layout layout = layout_of(grid, 22);
  const double natural =
      std::max({layout.left + layout.width + 10, 60 + text_width(grid.text.title, kFontSize),
                layout.left + text_width(grid.column_label, kFontSize) + 10,
                grid.value_label.empty() ? 0 : draw_scale(grid, most, 4, nullptr)});
  Svg svg(grid.text.id, grid.cell > 0 ? natural : kChartWidth, layout.top + layout.height + 10,
          grid.text.title, grid.text.description);
  double at = grid.value_label.empty() ? 0 : draw_scale(grid, most, 4, &svg);
  if (!grid.marked_name.empty()) {
    svg.rect(at, 3, 11, 11, "frame");
    svg.text(at + 17, 13, grid.marked_name);
    at += text_width(grid.marked_name, kFontSize) + 32;
  }
  if (!grid.arcs.empty()) {
    svg.path("M" + coordinate(at) + " 13Q" + coordinate(at + 10) + " -4 " + coordinate(at + 20) + " 13",
             "arc");
    svg.marker(0, at + 20, 12, 2.4, "arcend");
    svg.text(at + 27, 13, grid.arc_name);
  }
  draw_names(grid, layout, &svg);
  draw_cells(grid, layout, most, &svg);
  draw_arcs(grid, layout, &svg);
  return svg.str();
}

}  // namespace eep
