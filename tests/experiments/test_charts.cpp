// Charts draw what they are given: positions against values, labels that do not lie on each other, texts that
// stay texts.
#include <doctest/doctest.h>

#include <cmath>
#include <regex>

#include "experiments/report/charts.h"
#include "experiments/report/svg.h"
#include "experiments/report/table.h"
#include "tests/experiments/markup.h"

using namespace eep;
using namespace eep::test;

namespace {

struct Place {
  double x = 0, y = 0;
};

// Where the marks with this note in front of it stand.
std::vector<Place> discs(const std::string& svg, const std::string& note) {
  std::vector<Place> places;
  const std::regex mark("<circle cx=\"([-0-9.]+)\" cy=\"([-0-9.]+)\"[^>]*><title>" + note);
  for (std::sregex_iterator it(svg.begin(), svg.end(), mark), end; it != end; ++it)
    places.push_back({std::stod((*it)[1]), std::stod((*it)[2])});
  return places;
}

XyChart line_of(const std::vector<std::pair<double, double>>& points) {
  XyChart chart;
  chart.text = {"c", "title", "description"};
  chart.series.push_back({"s", 0, true, true});
  for (const auto& [x, y] : points) chart.series[0].marks.push_back({x, y, std::nullopt, "mark"});
  return chart;
}

}  // namespace

TEST_CASE("charts: axes have round ticks within their ends") {
  for (const auto& ends :
       {std::pair{0.0, 1.0}, {0.371, 0.372}, {-3.0, 1e9}, {5.0, 5.0}, {-1e15, 1e15}, {0.0, 0.0}}) {
    const double low = ends.first, high = ends.second;  // bindings cannot be captured
    for (const bool round : {true, false}) {
      const Axis axis = make_axis(low, high, 6, round);
      CAPTURE(low);
      CAPTURE(high);
      CHECK(axis.low <= low);
      CHECK(axis.high >= high);
      CHECK(axis.high > axis.low);
      CHECK(axis.ticks.size() >= 2);
      CHECK(axis.ticks.size() <= 14);
      const double slack = (axis.high - axis.low) * 1e-5;
      CHECK(axis.ticks.front() >= axis.low - slack);
      CHECK(axis.ticks.back() <= axis.high + slack);
    }
  }
  const Axis percent = make_axis(0.4, 0.8, 5, true, false, 100);
  CHECK(percent.label(percent.ticks.front()) == "40");
  CHECK(make_axis(0, 3, 8, false, true).ticks.size() == 4);  // whole numbers alone
}

TEST_CASE("charts: marks stand where their values are") {
  const std::vector<std::pair<double, double>> points{{0, 0.5}, {10, 0.25}, {40, 1.0}, {25, 0.75}};
  const std::string svg = draw(line_of(points));
  CHECK(read_markup(svg).error.empty());
  const std::vector<Place> places = discs(svg, "mark");
  REQUIRE(places.size() == points.size());
  // Two of them give the scale, the others follow it: coordinates have two decimals.
  const double per_x = (places[2].x - places[0].x) / 40, per_y = (places[2].y - places[0].y) / 0.5;
  CHECK(per_x > 0);
  CHECK(per_y < 0);
  for (size_t i = 0; i < points.size(); ++i) {
    CHECK(std::abs(places[i].x - places[0].x - per_x * points[i].first) < 0.02);
    CHECK(std::abs(places[i].y - places[0].y - per_y * (points[i].second - 0.5)) < 0.02);
  }
}

TEST_CASE("charts: labels of levels keep apart, empty charts are charts") {
  XyChart chart = line_of({{0, 0}, {1, 1}});
  for (int i = 0; i < 8; ++i) chart.levels.push_back({"level" + std::to_string(i), 0.5 + 0.001 * i});
  const std::string svg = draw(chart);
  const std::regex text("<text x=\"[0-9.]+\" y=\"([0-9.]+)\"[^>]*>level");
  std::vector<double> ys;
  for (std::sregex_iterator it(svg.begin(), svg.end(), text), end; it != end; ++it)
    ys.push_back(std::stod((*it)[1]));
  REQUIRE(ys.size() == 8);
  std::sort(ys.begin(), ys.end());
  for (size_t i = 1; i < ys.size(); ++i) CHECK(ys[i] - ys[i - 1] >= 13.9);

  CHECK(read_markup(draw(XyChart{})).error.empty());
  CHECK(read_markup(draw(RowChart{})).error.empty());
  CHECK(read_markup(draw(BarChart{})).error.empty());
  CHECK(read_markup(draw(Grid{})).error.empty());
}

TEST_CASE("charts: a grid of many cells is drawn without a note each, every cell once") {
  Grid grid;
  grid.text = {"g", "title", "description"};
  const size_t rows = 94, columns = 128;
  for (size_t i = 0; i < rows; ++i) grid.rows.push_back(std::to_string(i));
  for (size_t i = 0; i < columns; ++i) grid.columns.push_back(std::to_string(i));
  for (size_t i = 0; i < rows * columns; ++i) {
    grid.values.emplace_back(1.0);
    grid.notes.emplace_back("note");
    grid.marked.push_back(0);
  }
  const std::string svg = draw(grid);
  CHECK(read_markup(svg).error.empty());
  CHECK(svg.size() < 60 * rows * columns);
  size_t cells = 0;
  for (size_t at = svg.find('M'); at != std::string::npos; at = svg.find('M', at + 1)) ++cells;
  CHECK(cells == rows * columns);
}

TEST_CASE("charts: whatever a text holds stays a text") {
  const std::string evil = "</svg><script>alert('1')</script>&\"\x01\xff";
  XyChart chart = line_of({{0, 0}, {1, 1}});
  chart.text.title = chart.text.description = chart.x_label = chart.y_label = evil;
  chart.series[0].name = chart.series[0].marks[0].note = evil;
  chart.levels.push_back({evil, 0.5});
  chart.phases.push_back({evil, 0, 1});
  const Markup markup = read_markup(draw(chart));
  CHECK(markup.error.empty());
  for (const std::string& element : markup.elements) CHECK(element != "script");
  CHECK(markup.text.find("</svg><script>alert('1')") != std::string::npos);
  CHECK(escape_markup("\xc3\xa9\xed\xa0\x80") == "\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(shorten("abc\xc3\xa9\xc3\xa9", 4) == "abc\xe2\x80\xa6");
  CHECK(csv_text({{"a", "b"}, {{"x,\"y\"", "line\nline"}}}) == "a,b\n\"x,\"\"y\"\"\",\"line\nline\"\n");
}
